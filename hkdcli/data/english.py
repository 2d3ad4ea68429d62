"""Words of English that say what part a word plays in a caption; everything that is not here may be a noun.

The closed classes (determiners, prepositions, pronouns, ...) are nearly whole. Verbs and adjectives are those
that captions of pictures use most, since no list of them ends.
"""

from __future__ import annotations


def read_list(words: str) -> frozenset[str]:
    """The words of a list that is written as a text."""
    return frozenset(words.split())


DETERMINERS = read_list(
    """a an the this that these those my your his her its our their some any each every either neither no
    another other others such all both half several many much few more most various numerous certain
    own same multiple different"""
)
NUMBERS = read_list(
    """one two three four five six seven eight nine ten eleven twelve dozen twenty thirty hundred"""
)
PREPOSITIONS = read_list(
    """aboard about above across after against along alongside amid among amongst around as at atop before
    behind below beneath beside besides between beyond by down during for from in including inside into like
    near nearby next of off on onto opposite out outside over past per through throughout to toward towards
    under underneath up upon via with within without away together apart adjacent"""
)
AUXILIARIES = read_list(
    """am is are was were be been being has have had having do does did can could may might must shall should
    will would"""
)
ADVERBS = read_list(
    """not also just very too so quite rather still already only even almost far here there forward upright
    currently possibly perhaps ready able likely"""
)
STOPS = read_list(
    """and or but nor yet while whilst when where whereas because since although though if unless until than
    then i you he she it we they me him us them himself herself itself themselves mine yours hers ours theirs
    someone something anyone anything everyone everything nothing nobody none what whom whose how why
    however therefore additionally furthermore overall moreover besides etc it's there's"""
)
CONJUNCTIONS = read_list("""and or but nor yet""")
"""Those of the stops that join equals."""
RELATIVES = read_list("""that which who""")

PLACES = read_list(
    """front top side sides middle midst center centre bottom left right inside outside edge end back"""
)
"""Nouns that "of" turns into a part of a preposition: "in front of", "left of"."""

FRAMES = read_list(
    """image picture photo photograph photography scene background foreground view front side middle midst
    center centre top bottom left right distance corner overall lot number couple variety addition"""
)
"""Nouns that are no object of a picture by themselves."""

ADJECTIVES = read_list(
    """red green blue yellow purple orange pink brown black white gray grey cyan beige golden silver dark
    light bright colorful colourful big small large little tiny huge giant tall short long wide narrow thick
    thin young old new older younger elderly adult male female happy sad wet dry hot cold warm clean dirty
    empty full open closed round flat high low deep wooden metal plastic grassy sandy rocky snowy
    sunny cloudy busy beautiful pretty cute nice fresh ripe transparent striped broken plaid floral fluffy
    furry shiny rustic modern vintage quiet lush outdoor indoor visible various brightly"""
)

ADJECTIVES_LIKE_NOUNS = read_list("""light orange adult male female round plaid""")
"""Adjectives that are nouns after another noun: "traffic light"."""

VERBS = read_list(
    """sit sits sat sitting stand stands stood standing hold holds held wear wears wore worn ride rides
    rode ridden walk walks walked run runs ran running look looks looked lie lies lay lying lean leans
    leaned carry carries carried eat eats ate eaten drink drank throw throws threw thrown catch catches
    caught jump jumps jumped drive drives drove driven fly flies flew flown feature features featured
    show shows showed shown depict depicts depicted display displays displayed capture captures captured
    appear appears appeared seem seems seemed suggest suggests suggested indicate indicates indicated
    create creates created add adds added include includes included contain contains contained surround
    surrounds surrounded faced watch watches watched take takes took taken make makes made get gets got
    give gives gave given use uses used cut cuts cooks cooked plays played put puts places placed rest
    rests rested hang hangs hung swing swings swung hit hits kick kicks pull pulls pulled push pushes
    pushed talk talks talked smile smiles smiled laugh laughs pose poses posed prepare prepares prepared
    reach reaches reached grab grabs wait waits graze grazes fill fills filled cover covers covered fall
    falls fell sleep sleeps slept ski surf surfs skateboard skateboards enjoy enjoys enjoyed engage
    engages see sees saw seen sets set arrange arranges decorate attach attached pass passes cross
    crosses crossed swim swims feed feeds fed go goes went gone come comes came move moves turn turns
    turned read reads write writes written build built draw draws drawn let lets keep keeps kept wrap
    wraps wrapped serve serves served shine shines help helps try tries tried done"""
)
"""Without those that are nouns more often ("face", "park")."""

NOUNS_LIKE_VERBS = read_list(
    """building buildings ceiling ceilings clothing evening morning painting paintings wedding railing
    railings string king ring rings wing wings spring thing things pudding icing frosting topping
    toppings dressing stuffing earring earrings bedding crossing clearing awning lighting seating
    bed beds bread breads shed sled seed weed family butterfly jelly fly belly assembly lily
    bedspread overhead head"""
)
"""Nouns that end as participles and adverbs do."""
