"""Words that tell English from other languages written in Latin letters, without marks."""

from __future__ import annotations

SHARED = """
    a i in on an is am as at me no so he we be all also under over for or of man men her hat had was war
    will son come are has den die bad rot gold silver blond blonde grand long large place front image
    photo orange violet rose beige magenta turquoise indigo lilac sepia neon mini compact total double
    triple solo trio duo single plural sole plus train taxi bus hotel restaurant pizza sofa radio park
    sport hand arm land wind warm wild kind last rest list text menu logo poster banner alphabet initial
    digital symbol emblem dial port central distance centre portion extra grain zoom pixel detail
    texture compression resolution do to by but now then that ten ad per via next it if not dot more
    note page document ticket message language code plan paint amber ruby emerald rust mint lime coral
    olive jade aqua marine color hue tint pale ray moon sun animal cage table chat pain car type simple
    possible visible horizon partial barrier original normal stand stands stop start test film motor
    club bar set ski tennis golf surf jeans shorts pose date pot lit chair regard god get gets got fly
    rode red fast hell gate barn art leg let din fort ham best dry hang sang bring arms met once sin pan
    actual real cane sale due fare dove pure bon may can star pies fat vest angel mare
"""
"""Words of English that other languages write alike, with the same meaning or another."""

FOREIGN = """
    le la les un une des du et est dans avec sur sous pour par aux qui que ses sont elle ils deux trois
    gauche droite rouge noir noire blanc blanche bleu bleue vert verte jaune gris grise chien homme
    femme rue derriere devant entre petit grande garcon fille enfants assis debout porte der das und ist
    ein eine einen einem einer mit auf von zu dem im vor neben hinter unter zwei drei sitzt steht liegt
    links rechts schwarz weiss blau grun gelb rote roter rotes frau kinder hund katze strasse sich nicht
    auch uber beim zum zur kleine grosse grosser el los las una uno unos unas del con para por esta este
    hay sobre junto sentado perro gato mujer hombre izquierda derecha rojo roja negro negra blanco
    blanca azul verde amarillo amarilla calle nino nina il gli lo di da nel nella della dello dei degli
    delle che sono uomo donna rosso rossa nero bianco bianca giallo sinistra destra sopra sotto sulla
    sul seduto seduta accanto alla tavolo strada bambino um uma umas os nao com na em ao ela ele dois
    duas homem mulher cachorro esquerda direita vermelho vermelha preto preta branco rua mesa sentada
    perto het een op van aan bij naast voor achter zijn haar twee drie zit staat ligt rood zwart wit
    blauw geel vrouw hond kat straat tafel jongen meisje og en ett av pa som ar till vid eller med och
    det kvinna kvinne mand sitter svart rod hvit gul bord gata jest oraz przy siedzi stoi kot kobieta
    czarny bialy czerwony dwa yang dan dengan pada dari ini itu seorang orang sebuah duduk berdiri merah
    hitam putih bir ve ile kadin adam kirmizi siyah beyaz oturuyor uzerinde egy es az kutya macska piros
    fekete ul cu pe si sunt caine barbat femeie rosu negru ja ei istuu koira kissa mies nainen punainen
    musta mot nguoi va trong ong dang ngoi tren cho mau se su de y
"""
"""Function words of other languages, and what captions say most: colours, sides, people, pets."""

ENGLISH = """
    man's people person woman women zebra suit monkey stick steak boy girl child children kid baby guy
    lady gentleman player rider driver passenger worker chef surfer skier skater skateboarder
    snowboarder pedestrian crowd dog cat horse cow sheep bird elephant bear giraffe kitten puppy lamb
    pony duck goose fish animal pet bicycle bike motorcycle motorbike airplane plane truck boat ship
    wagon cart vehicle carriage scooter street road sidewalk traffic hydrant meter bench fence bridge
    building house tower church wall window door roof floor ceiling room kitchen bathroom bedroom living
    dining office shelf drawer cabinet counter sink stove oven refrigerator fridge toaster microwave
    toilet bathtub shower mirror towel chair couch bed desk lamp rug curtain pillow blanket bottle glass
    cup mug bowl knife fork spoon dish plate food meal breakfast lunch dinner bread cake cheese meat
    chicken soup salad sandwich apple banana carrot broccoli donut doughnut fruit vegetable egg tea
    coffee beer milk water juice snack slice produce shirt jacket coat dress skirt pants trousers shoe
    boot sock glove scarf helmet glasses sunglasses backpack bag handbag suitcase luggage purse umbrella
    tie hair beard mustache face eye mouth nose ear foot feet leg finger shoulder neck tail wing paw
    beak horn fur feather ball bat racket racquet frisbee kite skateboard surfboard snowboard skis
    skiing skate game match team field court beach ocean sea wave lake river mountain hill snow sand
    grass tree forest leaf leaves flower plant bush rock stone sky cloud weather winter summer spring
    autumn phone computer laptop mouse remote television book paper pen pencil box basket vase candle
    toy doll teddy scissors hairdryer toothbrush brush bucket ladder rope chain wheel tire seat engine
    track railway railroad station airport runway town city village country farm barn garden yard store
    shop market school circle square triangle star cross diamond shape cell hallucination hallucinate
    claim true false verify verifiable factual partially built work live name year day week month world
    century stand located known called lie leave carry seem side-by-side ready about made found used
    born died began became become company family state states government north south american british
    isn aren wasn weren don doesn didn couldn wouldn shouldn hasn haven won ain can't describe
    description provide brief which does doing happening whose filled topped parked sitting standing
    lying leaning graze eating drinking holding wearing looking walking running riding playing flying
    swinging crossing waiting sleeping swimming smiling posing talking reading
"""
"""Nouns of pictures and of common knowledge, and further words that no other list of ours holds."""
