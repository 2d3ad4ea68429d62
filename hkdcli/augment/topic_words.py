"""The words that say that a text speaks of a topic.

Base forms: endings are taken off before a word is looked up. What is joined by hyphens is looked up as words
that follow one another. A word may stand under several topics. The lists hold what a person would think of
when asked what an operation on a picture may falsify, and rather too much: a word that is here without need
costs a refusal, one that is missing may cost a wrong label.
"""

from __future__ import annotations

COLOUR = """
    colour color tint tinge hue shade tone red orange yellow green blue purple violet pink brown black
    white gray grey cyan magenta maroon tan beige gold golden silver silvery bronze copper brass ivory
    cream creamy khaki navy teal turquoise crimson scarlet burgundy lavender lilac indigo amber olive
    peach salmon rust rusty blond blonde brunette brunet redhead redheaded auburn ginger colourful
    colorful multicolor multicolour multicolored multicoloured bicolor tricolor tricolour vivid vibrant
    pale pastel neon rosy rose charcoal chestnut coral mint mustard plum lime emerald ruby sapphire aqua
    azure fuchsia mauve ochre ocher taupe platinum albino greenery monochrome monochromatic sepia
    grayscale greyscale rainbow camouflage saturated desaturated saturation faded fade bleach dye whiten
    blacken redden yellowed tanned sunburn sunburnt blush calico tortoiseshell brindle ripe unripe
    rotten hazel jade lemon wine strawberry-blond buff fawn ash-blond salt-and-pepper bluish hued
    technicolor iridescent paint painted caramel chocolate metallic
    chartreuse cerulean cobalt vermilion terracotta sienna umber tawny russet verdant periwinkle apricot
    tangerine mahogany ebony puce ecru flaxen ombre colorless colourless discolor discolour multihued
    swarthy carmine cerise mocha opal pearl avocado seafoam cornflower undyed unpainted oxblood purply
    milky ashen inky sooty charred burnt toasted roan palomino tabby piebald pinto dark-haired
    fair-haired fair-skinned light-skinned bloodshot technicolour sandy-haired hueless ruddy
"""
LIGHT = """
    dark darken bright brighten night nighttime evening dusk dawn sunset sunrise daylight daytime midday
    noon morning afternoon twilight midnight sun sunny sunlit sunlight sunshine sunbeam overcast cloudy
    gloomy gloom foggy misty hazy stormy shade shady shadow shadowy silhouette backlit backlight lit
    unlit light lighting lighten lightning lighted illuminate illumination glow glare gleam shine shiny
    shone glossy gloss sparkle sparkling glitter glitz glint flash flare dim dimly moonlit moonlight
    moon candlelit candlelight neon brilliant radiant luminous luminescent pale vivid contrast exposure
    overexposed underexposed exposed washed-out starry firelight spotlight headlight taillight
    flashlight streetlight floodlight skylight lamplight flame pitch-black black-and-white monochrome
    reflective beam ray twinkle blinding blackout faded fade murky dull vibrant dusky fluorescent
    stoplight
    sunless daybreak nightfall noontime spotlit lamplit daylit starlit moonless blacked-out
    radiance incandescent ablaze aglow nocturnal eclipse sunup sundown underlit lightless dazzle flicker
    shimmer glisten turned-off turned-on switched-off switched-on charred
"""
SIDE = """
    rightwards lefty southpaw clockwise anticlockwise counterclockwise east west eastern western
    eastward westward eastbound westbound easterly westerly northeast northwest southeast southwest
    northeastern northwestern southeastern southwestern mirrored mirror-image reversed inverted
    driver-side drivers-side passenger-side passengers-side wrong-side port-side starboard stage-door
    compass arrow left right leftmost rightmost lefthand righthand lefthanded righthanded leftward
    leftwards rightward
    lhs rhs l-h-s r-h-s lefthandside righthandside leftie righty wrong-way offside nearside ne nw se sw
    l-shape j-shape s-shape z-shape s-curve s-bend
"""
PLACE = """
    top bottom corner edge border centre center central middle midst background foreground upper lower
    uppermost lowermost topmost bottommost leftmost rightmost periphery peripheral margin rim cut-off
    cropped crop truncate partial partially partly part portion frame fringe boundary outskirts horizon
    visible visibly side half quarter third whole entire entirely fully full-length full-body complete
    completely distance distant far farther farthest faraway backdrop close-up closeup zoom zoomed
    in-view out-of-view full-view overhead offscreen onscreen halfway midway outer outermost inner
    innermost head-to-toe head-and-shoulders peek protrude poke stick-out sticking-out out-of-sight
    out-of-frame
    cutoff off-camera out-of-shot in-shot headshot waist-up perimeter sideline frontmost backmost
    hindmost panoramic panorama wide-angle up-close
"""
TEXT = """
    sign signage text say said read reader readable legible illegible write written wrote writing
    handwriting handwritten letter letterhead word wordmark number numeral digit digital logo logotype
    label labelled brand brandname poster banner billboard placard caption subtitle title heading
    headline name nametag nameplate numberplate registration clock watch wristwatch stopwatch timer
    screen scoreboard score dial thermometer gauge speedometer odometer calendar newspaper magazine menu
    chalkboard whiteboard blackboard graffiti tattoo print printed inscription inscribe engrave emboss
    spell alphabet font typeface autograph signature barcode bar-code qr symbol emblem badge crest
    insignia advertisement advert advertise ad ads sticker tag price chart graph diagram map globe flag
    banknote note message document ticket receipt page quote quotation slogan motto language english
    chinese japanese korean arabic russian cyrillic character initial initials monogram acronym
    watermark stamp postage address website url www http hashtag plaque marquee leaflet flyer brochure
    envelope postcard roman-numeral jersey-number racing-number playing-card hieroglyph rune calligraphy
    arrow spelling headstone gravestone tombstone license licence signpost marking
    misspell braille dice domino crossword sudoku scrabble stencil emblazon scribble scrawl doodle
    temperature percent percentage mph currency coin passport diploma certificate speed-limit countdown
    trademark keypad cursive italic uppercase lowercase entitled sundial spray-paint sheet-music invoice
    cheque timetable roulette embroider vowel consonant
"""
COUNT = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
    thousand million dozen first second third fourth fifth sixth seventh eighth ninth tenth once twice
    thrice double triple quadruple twin trio duo quartet quintet several many few much group pair couple
    crowd only alone single solo solitary lone lonely sole solely singly individual none no without all
    every each everyone everybody everything nobody nothing another both other others either neither
    multiple numerous various variety bunch lot herd flock pack set collection array series stack row
    pile cluster gathering swarm most more less fewer least half quarter count number amount quantity
    total plural plenty any lack lacking absent missing except empty nowhere crowded majority minority
    handful countless scattered assortment batch bundle fleet team else
    not never isn aren weren don doesn didn hasn haven hardly barely scarcely dual tandem threesome
    foursome plethora multitude throng mob myriad load tons gaggle brood litter extra additional further
    remaining sparse dense densely unoccupied vacant deserted twosome triplet someone anybody anyone
    abundance abundant
"""
SIZE = """
    large small big little tiny huge tall short long wide narrow thick thin giant massive enormous
    gigantic miniature mini oversized oversize size medium compact broad deep close-up closeup zoom
    zoomed far distance distant tower towering vast immense bulky slim fat chubby skinny life-size
    lifesize full-size scale height width length overgrown great grand minuscule microscopic petite
    colossal mammoth lengthy sizeable sizable medium-sized high low humongous midsize midsized shallow
    steep plump
    gargantuan diminutive teeny jumbo obese slender undersized outsize roomy spacious cramped inch lanky
    dwarf
"""
QUALITY = """
    blur blurry blurred sharp grain grainy clear unclear focus focused unfocused defocused pixel
    pixelated pixellated black-and-white monochrome monochromatic sepia grayscale greyscale resolution
    hd faded fade noise noisy fog foggy mist misty haze hazy smoke smoky steam steamy crisp detail
    detailed texture textured smooth rough fuzzy soft bokeh depth-of-field vintage quality compression
    compressed artifact artefact jpeg static speckle speckled freckle spotted spot dotted dot polka
    checkered checked checkerboard plaid pinstripe pattern snowing snowfall rain rainy raining drizzle
    drop droplet dusty dust distinct distinctive obscured motion smudge smear scratch indistinct defined
    vivid dim overexposed underexposed filter filtered edited retouched fine intricate glitter sparkle
    shimmer wrinkle hairy stubble sprinkle sprinkled stripe striped
    low-res high-res hi-res low-resolution distort distorted scanned photocopy glitch streak streaky
    blotchy crack cracked crease creased lace mesh woven knit knitted embroidery eyelash whisker pimple
    gingham tartan paisley houndstooth argyle herringbone corduroy chevron zigzag mosaic marbled mottled
    dappled flecked photoshopped airbrushed clarity unsharp
"""

NOT_MEANT = """
    watching watched finish finished finishes shorts watcher counter topped topping sided siding county
    rested timing timed named shortly thinly greatly wholly
"""
"""Forms that are no form of the listed word with the same stem."""
