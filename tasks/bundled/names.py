"""Random names of people, places, houses, works and pets: tens of thousands of each, by combination."""

from random import Random

from tasks.english import words

FIRST = words(
    "Anna Ben Clara David Ella Frank Grace Henry Iris Jack Kate Liam Mary Noah Olive Peter Rosa Sam Tom Una "
    "Victor Wendy Adam Bella Carl Diana Emil Fiona George Hannah Ivan Julia Karl Lucy Max Nina Oscar Paula Ralph "
    "Sarah Theo Vera Will Zoe Amir Bashir Chen Dora Esther Farid Gita Hugo Ines Jonas Kofi Leila Mina Nadia Omar "
    "Priya Ravi Sofia Tariq Yuki"
)
LAST = words(
    "Baker Carter Dawson Ellis Fisher Green Harris Irving Jones King Lane Mason Norris Owen Palmer Quinn Reed "
    "Shaw Turner Underwood Vance Walker Young Abbott Brooks Cole Drake Evans Ford Grant Hughes James Knight Lewis "
    "Moore Nash Parker Rhodes Stone Taylor Webb Ahmed Bauer Costa Dubois Eriksen Ferrari Garcia Haddad Ito "
    "Kowalski Lopez Meyer Novak Okafor"
)
ADJECTIVES = words(
    "Old New Silver Golden Quiet Little Great Hidden Broken Bright Dark Long Lost Last First Happy Lonely Secret "
    "Frozen Wild White Black Blue Green Grey Brown Royal Ancient Silent Gentle Crooked Distant Empty Endless "
    "Fallen Flying Forgotten Burning Hollow Humble Iron Jolly Lucky Merry Noble Northern Southern Eastern Western "
    "Painted Proud Rusty Sleeping Stone Sunny Swift Twisted Velvet Wandering Winter Summer Autumn Wooden Young "
    "Crystal Copper Amber Scarlet Rolling"
)
NOUNS = words(
    "Garden Tower Bridge Harbour River Mountain Forest Lantern Anchor Crown Mirror Window Door Key Bell Clock "
    "Candle Feather Lion Eagle Fox Bear Swan Horse Raven Owl Wolf Deer Hare Heron Otter Falcon Badger Rose Oak "
    "Willow Maple Ivy Thistle Clover Poppy Cedar Elm Holly Star Moon Sun Cloud Storm Rain Wind Snow Fire Shadow "
    "Dream Song Journey Letter Road Gate Field Meadow Valley Island Lake Shore Castle Palace Cottage Chapel "
    "Market Square Corner Mill Well Ship Sail Compass Wheel Hammer Arrow Shield Ribbon Button Needle Thread "
    "Basket Barrel Bottle Pocket Puzzle Whistle Drum Violin Piano Captain Sailor Queen Prince Shepherd Hunter "
    "Painter Doctor Stranger Neighbour Giant Dragon Tiger Elephant Monkey"
)
ONSETS = words("b br c ch d dr f fl g gr h j k kl l m n p pr r s sh st t th tr v w z")
VOWELS = words("a e i o u ai ea ee ia oa")
CODAS = ["", "", "", "n", "r", "l", "s", "m", "nd", "rt", "x", "ck"]
PLACE_ENDINGS = ("ton", "field", "ford", "bury", "ham", "ville", "mouth", "dale", "haven", "port", "wick", "stead")


def syllables(random: Random, count: int) -> str:
    """An invented word of `count` syllables, capitalised."""
    word = "".join(random.choice(ONSETS) + random.choice(VOWELS) + random.choice(CODAS) for _ in range(count))
    return word.capitalize()


def invented(random: Random) -> str:
    return syllables(random, random.choice((1, 2, 2, 3)))


def person(random: Random) -> str:
    first = random.choice(FIRST) if random.random() < 0.8 else invented(random)
    return f"{first} {random.choice(LAST) if random.random() < 0.7 else invented(random)}"


def pet(random: Random) -> str:
    return random.choice([*FIRST, *NOUNS]) if random.random() < 0.5 else invented(random)


def town(random: Random) -> str:
    stem = syllables(random, 1) if random.random() < 0.6 else random.choice(NOUNS)
    return stem + random.choice(PLACE_ENDINGS)


def house(random: Random) -> str:
    """A name of an inn, a shop or a museum."""
    adjective, noun, other = random.choice(ADJECTIVES), random.choice(NOUNS), random.choice(NOUNS)
    forms = (
        f"The {adjective} {noun}", f"The {noun}", f"{adjective} {noun}", f"{noun} & {other}", f"{noun} and {other}",
        f"{random.choice(FIRST)}'s", f"{random.choice(LAST)}'s {noun}", f"{invented(random)}", f"{town(random)} House",
        f"{noun} {other}", f"The {invented(random)}", f"Le {invented(random)}", f"{invented(random)} {noun}",
    )  # fmt: skip
    return random.choice(forms)


def work(random: Random) -> str:
    """A title of a film, a book, a song or a game."""
    adjective, noun, other = random.choice(ADJECTIVES), random.choice(NOUNS), random.choice(NOUNS)
    forms = (
        f"The {adjective} {noun}", f"{adjective} {noun}", f"The {noun} of the {other}", f"A {noun} in {town(random)}",
        f"{noun} and {other}", f"{invented(random)}", f"The {noun} of {town(random)}", f"My {adjective} {noun}",
        f"{random.choice(FIRST)} and the {noun}", f"Under the {noun}", f"{adjective} {noun} {random.randint(2, 4)}",
    )  # fmt: skip
    return random.choice(forms)


def product(random: Random) -> str:
    letter = random.choice("ABCDEFGHKLMNPRSTVWXZ")
    model = random.choice([letter + str(random.randint(2, 99)), str(random.randint(2, 900)), random.choice(NOUNS)])
    return f"{invented(random)} {model}"
