"""What `adapters.peft_method` needs of the peft library: its options, and undoing and saving its changes of a model."""
