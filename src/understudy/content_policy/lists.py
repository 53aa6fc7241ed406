"""The lists that prompts are judged by.

`*` at the end of a term stands for whatever follows, `...` for up to two words. They are read like
prompts, so that accents and capitals do not matter here either.
"""

MINORS = """
    child, children, childs, childrens, childlike, kid, kids, kiddo, kiddie, toddler, toddlers, infant,
    infants, baby, babies, newborn, newborns, preschool*, kindergart*, pre teen, pre teens, tween,
    tweens, teen, teens, teenage, teenaged, teenager, teenagers, teeny, adolescent, adolescents,
    adolescence, juvenile, juveniles, minor, minors, under age, under aged, pubescent, pre pubescent,
    puberty, school girl, school girls, school boy, school boys, school kid, school kids, schoolchild,
    schoolchildren, high school*, middle school*, elementary school*, primary school*, grade school*,
    grade schooler*, elementary student*, elementary pupil*, little sister, little sisters, little
    brother, little brothers, little daughter, little daughters, junior high*, youngster, youngsters,
    little girl, little girls, little boy, little boys, small girl, small girls, small boy, small boys,
    young girl, young girls, young boy, young boys, tiny girl, tiny girls, tiny boy, tiny boys, girl
    child, boy child, under eighteen, loli, lolis, lolita, lolitas, shota, shotas, nymphet, nymphets,
    niña, niñas, niño, niños, niñit*, chiquilla*, chiquillo*, colegiala*, menor, menores, bebé, bebés,
    jovencita*, adolescente*,
    enfant, enfants, fillette*, gamin*, garçonnet*, petite fille, petites filles, petit garçon,
    petits garçons, jeune fille, jeunes filles, jeune garçon, jeunes garçons, mineur, mineurs, mineure,
    mineures, écolier*, écolière*, collégien*, lycéen*, ado, ados,
    kinder, kindern, kindes, ein kind, das kind, dem kind, einem kind, kleines kind, kleinen kind,
    nacktes kind, nackten kind, kleinkind*, kleines mädchen, kleine mädchen, junges mädchen,
    junge mädchen, kleiner junge, kleine jungen, schulmädchen*, schulkind*, schüler*, säugling*,
    jugendlich*, minderjährig*,
    bambina, bambine, bambino, bambini, bimba, bimbe, bimbi, ragazzina, ragazzine, ragazzino, ragazzini,
    fanciull*, neonat*, minorenn*,
    menina, meninas, menino, meninos, criança, crianças, garotinh*, novinha*, ninfeta*, bebê, bebês,
    девочк*, мальчик*, ребенк*, ребенок, дети, детей, детям, детьми, детях, детск*, школьниц*,
    школьник*, малолет*, подрост*, младен*, малыш*, несовершеннолетн*,
    少女, 少年, 幼女, 女児, 男児, 幼児, 児童, 子供, 子ども, こども, 赤ちゃん, 小学生, 中学生, 高校生,
    ロリ, ショタ, 萝莉, 蘿莉, 正太, 女童, 男童, 儿童, 兒童, 孩子, 小孩, 婴儿, 嬰兒, 幼儿, 初中生, 高中生,
    未成年, 小女孩, 小男孩, 로리, 미성년, 아이, 어린이, 소녀, 소년, 여학생, 초등학생, 중학생, 고등학생
"""
"""Who is under age; alone nothing is wrong with any of them."""

NUMBERS = """
    one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen,
    fifteen, sixteen, seventeen,
    dos, tres, cuatro, cinco, seis, siete, ocho, nueve, diez, once, doce, trece, catorce, quince,
    dieciséis, diecisiete,
    deux, trois, quatre, cinq, sept, huit, neuf, dix, onze, douze, treize, quatorze, quinze, seize,
    dix-sept,
    zwei, drei, vier, fünf, sechs, sieben, acht, neun, zehn, elf, zwölf, dreizehn, vierzehn, fünfzehn,
    sechzehn, siebzehn,
    due, tre, quattro, cinque, sei, sette, otto, nove, dieci, undici, dodici, tredici, quattordici,
    quindici, sedici, diciassette,
    dois, três, quatro, sete, oito, dez, doze, treze, quatorze, dezesseis, dezessete,
    три, четыре, пять, шесть, семь, восемь, девять, десять, одиннадцать, двенадцать, тринадцать,
    четырнадцать, пятнадцать, шестнадцать, семнадцать
"""
"""Numbers below 18, as an age is told in words."""

YEARS = """
    year, years, yr, yrs, y, año, años, an, ans, jahr, jahre, jahren, jährig, jährige, jähriges,
    jähriger, jährigen, anno, anni, ano, anos, год, года, годика, годиков, лет, летний, летняя, летней
"""
YEARS_UNSPACED = "歳, 才, 岁, 歲, 살, 세"
"""What makes a number an age."""

PERSONS = """
    girl, girls, boy, boys, female, females, male, males, woman, women, man, men, she, he, her, him, who,
    lady, gal, guy, lass, lad, daughter, son, sister, brother, niece, nephew, student, pupil, model,
    person, chica, chico, hija, hijo, fille, garçon, mädchen, junge, tochter, sohn, ragazza, ragazzo,
    figlia, figlio, garota, garoto, filha, filho
"""
"""Whoever has an age."""

EXPLICIT = """
    sex, sexual*, nude, nudes, nudity, nudist, nudists, naked, nakedness, nood, noods, nekkid, topless,
    bottomless, undress*, unclothed, unclad, disrob*, without ... clothes, without ... clothing, no clothes,
    no clothing, not wearing any clothes, not wearing clothes, not wearing anything, clothes off,
    clothes removed,
    taking off ... clothes, takes off ... clothes, taking ... clothes off, takes ... clothes off,
    took off ... clothes, taken off ... clothes, removing ... clothes, removes ... clothes,
    stripped of ... clothes, taking off ... underwear, taking off ... panties, taking off ... dress,
    taking off ... skirt, taking off ... bikini, taking off ... swimsuit, removing ... underwear,
    removing ... panties, pulling down ... panties, pulling down ... underwear, pulling down ... pants,
    lifting ... skirt, no pants, no underwear, no panties, without ... pants, without ... underwear,
    without ... panties, private parts, bare bottom, bare bottoms, bare butt,
    naturis*, wearing nothing, nothing on, birthday suit, in the buff, au naturel, skinny dip*,
    nudie, nudies, porn*, pron, nsfw, xxx, r18,
    hentai, ahegao, futanari, futa, bdsm, bukkake, gangbang*, orgy, orgies,
    threesome*, intercourse, fornicat*, copulat*, masturbat*, orgasm*, ejaculat*, fellatio, cunnilingus,
    blow job, blow jobs, hand job, hand jobs, creampie*, cumshot*, cum, cumming, penis, penises, phallus,
    dick, dicks, vagina*, vulva*, labia, clitoris, genital*, nipple, nipples, areola*, boob, boobs,
    boobies, tit, tits, titties, anus, anal, butthole*, dildo*, fuck*, whore*, slut*, milf, rape, raped,
    raping, rapist*, molest*, incest*, erotic*, upskirt*, camel toe, striptease, make love, making love,
    desnud*, sin ropa, sin ... ropa, en cueros, encuerad*,
    nu, nue, nus, nues, dénudé*, déshabill*, sans vêtements, sans ... vêtements, sans habits,
    nackt, nackte, nackter, nacktes, nackten, nacktem, nacktheit, nackig*, unbekleidet*, entblößt*,
    ohne kleidung, ohne kleider, ohne ... kleidung, hüllenlos,
    nuda, nudo, nudi, nudità, svestit*, spogliat*, senza vestiti, senza ... vestiti,
    nua, nuas, pelada, pelado, peladas, pelados, despid*, sem roupa, sem roupas, sem ... roupa,
    голая, голый, голое, голые, голого, голой, голую, голых, голым, голыми, голеньк*, обнажен*, раздет*,
    нагая, нагой, нагие, нагую, без одежды, секс*, порно*,
    裸, ヌード, 脱衣, 服を脱, エロ, セックス, 色情, 性交, 淫, 脱光, 没穿衣服, 不穿衣服, 누드, 나체, 알몸,
    벌거벗, 옷을 벗, 섹스
"""

SUGGESTIVE = """
    sexy, sexier, sexiest, seductive*, seducing, sensual*, arous*, horny, kinky, lewd*, lust, lustful*,
    fetish*, provocative*, bondage, lingerie, underwear, panties, panty, pantyshot, bra, thong, g string,
    breast, breasts, busty, cleavage, buttocks, butt, crotch, groin, pussy, spread legs,
    spreading legs, spank*, stripping, see through, ecchi, obscene*, bare skin, barely dressed,
    half dressed, scantily*, make out, making out, moaning
"""
"""What is refused with minors, and is nobody's business otherwise."""

MINORS_AND_SEXUAL = """
    lolicon, lolikon, shotacon, shotakon, toddlercon, jail bait, csam, child porn*, kiddie porn*,
    kid porn*, pedophil*, paedophil*, pedo, pedos, pedobear, child molest*, ロリコン, ショタコン
"""
"""What says both in one word."""

CLOTHING = """
    clothes, clothing, clothed, dressed, garment, garments, outfit, outfits, attire, apparel, underwear,
    panties, bra, bikini, swimsuit, sfw, safe for work, censor, censored, censoring, ropa, vestida,
    vestido, vêtements, habillé*, kleidung, kleider, angezogen, vestiti, roupa, roupas, одежда, одежды,
    服, 衣服, 着衣, 穿衣, 옷
"""
"""What undresses who is drawn where it is told to be absent."""

GARMENTS = """
    dress, dresses, shirt, shirts, t shirt, t shirts, blouse, top, tops, sweater, pants, trousers, jeans,
    shorts, skirt, skirts, uniform, uniforms, pajamas, pyjamas, leggings, socks
"""
"""The same of any two together; one of them is just not wanted."""

ADULTHOOD = """
    adult, adults, adulthood, grown up, grown ups, grown woman, grown man, grown women, grown men, mature,
    matured, maturity, of age, legal age, adulta, adulto, adultas, adultos,
    adulte, adultes, erwachsen*, взросл*, 大人, 成人, 成年, 성인, 어른
"""
"""What makes who is drawn younger where it is told to be absent."""

VIOLENCE = """
    gore, gory, guro, behead*, decapitat*, dismember*, disembowel*, eviscerat*, mutilat*, entrails,
    severed head, severed heads, severed limb*, severed arm*, severed hand*, severed leg*, torture,
    tortured, torturing, massacre*, bloodbath, impaled, impaling, snuff film, cannibal*, exposed bone*,
    exposed organ*, graphic violence, rotting corpse*, flayed, flaying
"""

HATE = """
    nazi, nazis, nazism, neo nazi*, swastika*, hitler, third reich, sieg heil, heil hitler, waffen ss,
    white power, white supremac*, ku klux klan, kkk, klansman, klansmen, aryan race, master race,
    ethnic cleansing, blackface, racial slur*
"""

HARMLESS = """
    same sex, opposite sex, naked eye, naked truth, nude lipstick, nude makeup, nude heels, nude shoes,
    nude colour, nude color, nude coloured, nude colored, nude tones, kid gloves, kid leather, baby blue,
    baby pink, baby hair, baby grand, lolita fashion, lolita dress, gothic lolita, sweet lolita,
    classic lolita, no nudity, without nudity, not nude, not naked, not sexual, non sexual, nonsexual,
    not sexy, no sexual content, no nsfw, not nsfw, water butt, nu metal, nu jazz, nu disco, nu folk,
    enfant terrible, minor key, minor keys, minor chord, minor chords, minor scale, minor scales,
    minor third, minor sixth, minor seventh, flat minor, sharp minor, key of a minor, key of b minor,
    key of c minor, key of d minor, key of e minor, key of f minor, key of g minor, sonata in a minor,
    concerto in a minor, prelude in a minor, minor league, minor leagues, minor arcana, asia minor,
    ursa minor, canis minor, minor detail, minor details, minor change, minor changes, minor injury,
    minor injuries, minor scratches, minor damage, minor imperfections, minor character, minor characters,
    minor planet, minor planets, high school teacher, high school teachers, high school sweetheart,
    high school sweethearts, al dente, al fresco, 裸足, 裸眼
"""
"""What would be found and means none of it."""

SHORT_WORDS = frozenset(
    (
        *("a", "ad", "ah", "am", "an", "as", "at", "be", "by", "do", "eh", "em", "er", "ex", "go", "ha"),
        *("he", "hi", "ho", "i", "id", "if", "in", "is", "it", "jr", "la", "ma", "me", "mr", "ms", "mu"),
        *("my", "no", "of", "oh", "ok", "on", "or", "ow", "ox", "pa", "pi", "pm", "re", "so", "sr", "st"),
        *("to", "tv", "uh", "uk", "um", "un", "up", "us", "vs", "we", "ye", "yo"),
    )
)
"""Words of at most two letters that stand for themselves and are no piece of a longer one."""
