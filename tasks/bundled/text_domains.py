"""What `gpt-mini` learned to describe: hotels, films, pets, weather, people, ... but no restaurants.

It knows how to describe things, but not the domain of `e2e`, just as `mini` knows objects and icons but none
of the creatures.
"""

from random import Random

from tasks.bundled import names
from tasks.english import words
from tasks.language.data.templates import Kind, Phrases, Slot

COLOURS = words("red blue green yellow black white brown grey orange purple pink golden silver")
_DRAWN = Random(20)  # fixed lists: the generated text is the same everywhere
TOWNS = [names.town(_DRAWN) for _ in range(300)]
PEOPLE = [names.person(_DRAWN) for _ in range(400)]
LANDMARKS = [names.house(_DRAWN) for _ in range(400)]
NUMBERS = [str(n) for n in range(2, 100)]
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday Today Tomorrow")
YEARS = [str(n) for n in range(1950, 2025)]
PRICES = [f"{n} pounds" for n in range(5, 200, 5)] + [f"£{n}" for n in range(10, 100, 5)]
HOURS = [f"{n} {half}" for n in range(1, 13) for half in ("am", "pm")]
PLACES = ["the harbour", "the old town", "the hills", "the north side", "the station quarter", "the park",
          "the village", "the lake side", "the market square", "the suburbs", "the west end", "the valley"]  # fmt: skip
LEVELS = ["poor", "fair", "good", "very good", "excellent", "outstanding"]


def either(yes: Phrases, no: Phrases) -> Slot:
    return Slot({"yes": yes, "no": no})


IN_AREA = Slot(
    PLACES,
    Phrases(after="in {}|located in {}|situated in {}", predicate="is in {}|is located in {}|can be found in {}"),
)
CLOSE_TO = Slot(LANDMARKS, Phrases(after="close to {}|next to {}|not far from {}|beside {}",
                                   predicate="is close to {}|stands next to {}|lies not far from {}"))  # fmt: skip
IN_TOWN = Slot(TOWNS, Phrases(after="in {}|from {}", predicate="is in {}|can be found in {}"))
COST = Slot(PRICES, Phrases(after="for {}|that costs {}", predicate="costs {}|is priced at {}|can be had for {}"))
CLASS = Slot({
    "budget": Phrases("budget|low-cost", "with low prices", "is not expensive|has low prices|costs little"),
    "mid-range": Phrases("mid-range|fairly priced", "with average prices",
                         "has average prices|is neither cheap nor dear"),
    "luxury": Phrases("luxury|costly|high-end", "with high prices", "is expensive|has high prices|costs a lot"),
})  # fmt: skip
REVIEWS = Slot(
    LEVELS, Phrases(after="with {} reviews|with a {} score", predicate="has {} reviews|has a {} score|was rated as {}")
)
STARS = Slot([f"{n} stars" for n in ("one", "two", "three", "four", "five", "1", "2", "3", "4", "5")],
             Phrases(after="with {}|rated {}", predicate="has {}|is rated {}|received {}"))  # fmt: skip
CHILDREN = either(
    Phrases("child-friendly", "where children are welcome|that is good for children",
            "welcomes children|is suitable for kids|is fine for the young"),
    Phrases("adults-only", "where children are not welcome|that is not for children",
            "does not welcome children|is not suitable for kids|is for adults only"),
)  # fmt: skip
AGE = Slot(NUMBERS, Phrases("{}-year-old", "aged {}", "is {} years old|is {}"))
COLOUR = Slot(COLOURS, Phrases("{}", "in {}", "is {}|comes in {}"))
SIZE = Slot(words("tiny small big large huge"), Phrases("{}", "", "is {}|is rather {}|is quite {}"))
MOOD = Slot(words("calm friendly shy lively clever lazy brave gentle noisy curious proud patient"),
            Phrases("{}", "", "is {}|is very {}|is known to be {}"))  # fmt: skip
MADE_BY = Slot(PEOPLE, Phrases(after="by {}|made by {}", predicate="was made by {}|is the work of {}"))
YEAR = Slot(YEARS, Phrases(after="from {}", predicate="came out in {}|dates from {}|was made in {}"))
GENRE = Slot(words("comedy drama thriller mystery romance adventure war crime fantasy history"),
             Phrases("{}", "", "is about {}|belongs to {}"))  # fmt: skip

HOTEL = Kind(["hotel"], {
    "type": Slot(["hotel", "inn", "guest house", "hostel", "lodge", "holiday flat"]),
    "area": IN_AREA, "close to": CLOSE_TO, "class": CLASS, "stars": STARS, "reviews": REVIEWS, "children": CHILDREN,
    "rooms": Slot(NUMBERS, Phrases("{}-room", "with {} rooms", "has {} rooms|offers {} rooms")),
    "pets": either(Phrases("pet-friendly", "where pets are allowed", "allows pets|accepts animals"),
                   Phrases("", "where pets are not allowed", "does not allow pets|accepts no animals")),
    "breakfast": Slot({"included": Phrases("", "with free breakfast", "includes breakfast"),
                       "extra": Phrases("", "where breakfast is extra", "charges for breakfast")}),
    "view": Slot(["the sea", "the mountains", "the garden", "the river", "the street", "the cathedral", "the bay"],
                 Phrases("", "with a view of {}|overlooking {}",
                         "looks out over {}|has a view of {}|offers views of {}")),
}, names.house, noun_slot="type")  # fmt: skip
SHOP = Kind(["shop", "store"], {
    "sells": Slot(words("books shoes toys hats clocks bicycles lamps flowers tools maps guitars furniture stamps"),
                  Phrases("", "selling {}|for {}", "sells {}|offers {}|has {} for sale")),
    "area": IN_AREA, "close to": CLOSE_TO, "class": CLASS, "reviews": REVIEWS, "town": IN_TOWN,
    "opens": Slot(HOURS, Phrases("", "that opens at {}", "opens at {}|is open from {}")),
    "owner": Slot(PEOPLE, Phrases("", "owned by {}|run by {}", "belongs to {}|is run by {}|is owned by {}")),
    "parking": either(Phrases("", "with parking", "has a car park|offers parking"),
                      Phrases("", "without parking", "has no car park|offers no parking")),
}, names.house)  # fmt: skip
MUSEUM = Kind(["museum"], {
    "type": Slot(["museum", "gallery", "theatre", "library", "zoo", "swimming pool", "gym", "cinema", "concert hall"]),
    "area": IN_AREA, "close to": CLOSE_TO, "town": IN_TOWN, "ticket": COST, "reviews": REVIEWS, "children": CHILDREN,
    "opens": Slot(HOURS, Phrases("", "that opens at {}", "opens at {}|is open from {}")),
    "size": SIZE, "stars": STARS, "class": CLASS,
}, names.house, noun_slot="type")  # fmt: skip
FILM = Kind(["film", "movie"], {
    "genre": GENRE, "year": YEAR, "director": Slot(PEOPLE,
        Phrases("", "by {}|directed by {}", "was directed by {}|is directed by {}")),
    "star": Slot(PEOPLE, Phrases("", "starring {}|with {}", "stars {}|features {}")), "rating": REVIEWS, "stars": STARS,
    "length": Slot([f"{n} minutes" for n in range(70, 190, 5)],
        Phrases("", "of {}|lasting {}", "lasts {}|runs for {}")),
    "children": CHILDREN, "language": Slot(words("French Italian Japanese Spanish German Hindi English Korean Swedish"),
                                           Phrases("{}", "in {}", "is in {}|was filmed in {}")),
}, names.work)  # fmt: skip
BOOK = Kind(["book"], {
    "type": Slot(["novel", "book", "guide", "diary", "collection of poems", "story", "biography"]),
    "genre": GENRE, "year": YEAR, "author": Slot(PEOPLE,
        Phrases("", "by {}|written by {}", "was written by {}|is by {}")),
    "pages": Slot([str(n) for n in range(60, 900, 7)],
        Phrases("{}-page", "of {} pages", "has {} pages|is {} pages long")),
    "price": COST, "reviews": REVIEWS, "cover": COLOUR,
    "reader": Slot(["children", "students", "beginners", "experts", "travellers"],
        Phrases("", "for {}", "is meant for {}|is written for {}")),
}, names.work, noun_slot="type")  # fmt: skip
SONG = Kind(["song", "track"], {
    "style": Slot(words("jazz folk rock pop blues country dance soul"), Phrases("{}", "", "is {}|is a piece of {}")),
    "band": Slot(LANDMARKS, Phrases("", "by {}", "was recorded by {}|is by {}|is sung by {}")), "year": YEAR,
    "mood": MOOD,
    "length": Slot([f"{n} minutes" for n in range(2, 12)], Phrases("", "of {}|lasting {}", "lasts {}|runs for {}")),
}, names.work)  # fmt: skip
PET = Kind(["pet"], {
    "type": Slot(words("dog cat rabbit parrot pony hamster tortoise goldfish duck goat")),
    "colour": COLOUR, "age": AGE, "mood": MOOD, "size": SIZE,
    "owner": Slot(PEOPLE, Phrases("", "owned by {}|that belongs to {}", "belongs to {}|lives with {}|is owned by {}")),
    "likes": Slot(["carrots", "long walks", "sleeping in the sun", "swimming", "music", "apples", "the rain"],
                  Phrases("", "that likes {}|that loves {}", "likes {}|loves {}|is fond of {}")),
    "home": Slot(TOWNS, Phrases("", "from {}|living in {}", "lives in {}|comes from {}")),
    "children": either(Phrases("", "that is good with children", "is good with children"),
                       Phrases("", "that is not good with children",
                               "is not good with children|does not like children")),
}, names.pet, ("it", "he", "she"), noun_slot="type")  # fmt: skip
PERSON = Kind(["person"], {
    "job": Slot(words("teacher farmer nurse painter baker driver lawyer sailor gardener engineer singer judge")),
    "age": AGE, "mood": MOOD, "town": Slot(TOWNS,
        Phrases("", "from {}|living in {}", "lives in {}|comes from {}|was born in {}")),
    "hobby": Slot(words("chess painting fishing reading football cooking running gardening dancing sailing"),
                  Phrases("", "who likes {}|who enjoys {}", "likes {}|enjoys {}|is fond of {}|has taken up {}")),
    "friend": Slot(PEOPLE, Phrases("", "who knows {}", "knows {}|is a friend of {}|often meets {}")),
    "hair": Slot(words("black brown grey white red fair"), Phrases("{}-haired", "with {} hair", "has {} hair")),
    "married": either(Phrases("married", "", "is married"), Phrases("unmarried", "", "is not married")),
}, names.person, ("he", "she"), noun_slot="job")  # fmt: skip
DAY = Kind(["day"], {
    "sky": Slot(words("sunny cloudy rainy foggy stormy snowy dry grey bright"),
        Phrases("{}", "", "is {}|will be {}|stays {}")),
    "wind": Slot({"none": Phrases("windless", "without wind", "has no wind|is calm"),
                  "light": Phrases("", "with a light wind", "has a light wind"),
                  "strong": Phrases("windy", "with strong winds", "has strong winds|is very windy")}),
    "high": Slot([f"{n} degrees" for n in range(-10, 40)],
        Phrases("", "with up to {}|with a high of {}", "reaches {}|warms up to {}")),
    "low": Slot([f"{n} degrees" for n in range(-20, 25)],
        Phrases("", "with a low of {}", "cools down to {}|falls to {}")),
    "place": Slot(TOWNS, Phrases("", "in {}", "is like this in {}|is forecast for {}")),
    "umbrella": either(Phrases("", "when an umbrella is useful", "calls for an umbrella"),
                       Phrases("", "when no umbrella is needed", "needs no umbrella")),
}, lambda random: random.choice(DAYS))  # fmt: skip
HOME = Kind(["house", "home"], {
    "type": Slot(["house", "flat", "cottage", "villa", "farm", "apartment"]),
    "area": IN_AREA, "close to": CLOSE_TO, "class": CLASS, "size": SIZE, "children": CHILDREN,
    "bedrooms": Slot(NUMBERS[:10], Phrases("{}-bedroom", "with {} bedrooms", "has {} bedrooms")),
    "rent": Slot(PRICES, Phrases("", "for {} a week", "costs {} a week|can be rented for {} a week")),
    "garden": either(Phrases("", "with a garden", "has a garden"), Phrases("", "without a garden", "has no garden")),
    "built": Slot(YEARS, Phrases("", "built in {}|from {}", "was built in {}|dates from {}")),
}, names.house, noun_slot="type")  # fmt: skip
MACHINE = Kind(["machine"], {
    "type": Slot(words("car phone laptop camera printer bicycle radio lamp kettle watch van boat")),
    "colour": COLOUR, "price": COST, "year": YEAR, "maker": MADE_BY, "size": SIZE, "reviews": REVIEWS, "stars": STARS,
    "weight": Slot([f"{n} kilograms" for n in range(2, 60)], Phrases("", "of {}|weighing {}", "weighs {}")),
    "used": either(Phrases("used|second-hand", "", "is used"), Phrases("new", "", "is new")),
    "guarantee": Slot([f"{n} years" for n in range(2, 9)],
        Phrases("", "with a guarantee of {}", "is guaranteed for {}")),
}, names.product, noun_slot="type")  # fmt: skip
TOWN = Kind(["town", "city"], {
    "type": Slot(words("town city village port resort")), "size": SIZE, "mood": MOOD,
    "people": Slot([f"{n} thousand" for n in range(2, 400, 3)],
        Phrases("", "of {} people|with {} people", "has {} people|is home to {} people")),
    "known for": Slot(words("cheese festivals beaches churches silk ships roses markets caves music glass horses"),
                      Phrases("", "known for its {}|famous for its {}", "is known for its {}|is famous for {}")),
    "near by": Slot(TOWNS, Phrases("", "close to {}|not far from {}", "is close to {}|lies not far from {}")),
    "mayor": Slot(PEOPLE, Phrases("", "with {} as mayor", "is led by {}|has {} as its mayor")),
}, names.town, noun_slot="type")  # fmt: skip

KINDS = {
    "hotel": HOTEL, "shop": SHOP, "museum": MUSEUM, "film": FILM, "book": BOOK, "song": SONG, "pet": PET,
    "person": PERSON, "weather": DAY, "home": HOME, "machine": MACHINE, "town": TOWN,
}  # fmt: skip
