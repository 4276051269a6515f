"""The command line: one parser for every command, its help, its hints and its error style."""
