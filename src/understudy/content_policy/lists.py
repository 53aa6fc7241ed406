"""The lists that prompts are judged by; `*` at the end of a term stands for whatever follows.

They are read like prompts, so that accents and capitals do not matter here either.
"""

MINORS = """
    child, children, childs, childlike, kid, kids, kiddo, kiddie, toddler, toddlers, infant, infants,
    baby, babies, newborn, newborns, preschool*, kindergart*, pre teen, pre teens, tween, tweens, teen,
    teens, teenage, teenaged, teenager, teenagers, teeny, adolescent, adolescents, adolescence,
    juvenile, juveniles, minors, under age, under aged, pubescent, pre pubescent, puberty,
    school girl, school girls, school boy, school boys, schoolchild, schoolchildren, high schooler,
    high schoolers, middle schooler, middle schoolers, elementary school*, primary school*,
    grade school*, middle school, junior high, youngster, youngsters, little girl, little girls,
    little boy, little boys, small girl, small boy, young girl, young girls, young boy, young boys,
    tiny girl, tiny boy, girl child, boy child, under 18, under eighteen, loli, lolis, lolita, lolitas,
    shota, shotas, nymphet, nymphets,
    fillette*, gamine*, niña, niñas, niño, niños, menina, meninas, criança, crianças, bambina, bambine,
    bambino, bambini, ragazzina, kleinkind*, schulmädchen, minderjährig*, mineure, mineures,
    menor de edad, adolescente*, девочка, девочки, ребенок, дети, школьница, малолетка,
    少女, 幼女, 女児, 男児, 小学生, 中学生, 女子高生, ロリ, ショタ, 萝莉, 蘿莉, 正太, 女童, 儿童, 兒童,
    未成年, 小女孩, 로리, 미성년
"""
"""Who is under age; alone nothing is wrong with any of them."""

EXPLICIT = """
    sex, sexual*, nude, nudes, nudity, nudist, nudists, naked, nakedness, topless, bottomless, undress*,
    unclothed, unclad, without clothes, without clothing, no clothes, no clothing, wearing nothing,
    nothing on, birthday suit, porn*, nsfw, xxx, r18, hentai, ahegao, futanari, futa, bdsm, bukkake,
    gangbang*, orgy, orgies, threesome*, intercourse, fornicat*, copulat*, masturbat*, orgasm*,
    ejaculat*, fellatio, cunnilingus, blow job, blow jobs, hand job, hand jobs, creampie*, cumshot*, cum,
    cumming, penis, penises, phallus, dick, dicks, vagina*, vulva*, labia, clitoris, genital*, nipple,
    nipples, areola*, boob, boobs, boobies, tit, tits, titties, anus, anal, butthole*, dildo*, fuck*,
    whore*, slut*, milf, rape, raped, raping, rapist*, molest*, incest*, erotic*, upskirt*, camel toe,
    striptease, make love, making love,
    desnudo, desnuda, desnudos, desnudas, nackt, nackte, nackter, nacktes, nuda, nudo, pelada, pelado,
    голая, голый, обнаженная, секс, порно, 裸, ヌード, エロ, セックス, 色情, 性交, 淫, 누드, 섹스
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
    lolicon, lolikon, shotacon, shotakon, toddlercon, jailbait, csam, child porn*, kiddie porn*,
    kid porn*, pedophil*, paedophil*, pedo, pedos, pedobear, child molest*, ロリコン, ショタコン
"""
"""What says both in one word."""

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
    same sex, opposite sex, naked eye, nude lipstick, nude makeup, nude heels, nude shoes, nude colour,
    nude color, nude coloured, nude colored, nude tones, kid gloves, kid leather, baby blue, baby pink,
    baby hair, baby grand, lolita fashion, lolita dress, gothic lolita, sweet lolita, classic lolita,
    no nudity, without nudity, not nude, not naked, not sexual, non sexual, nonsexual, not sexy,
    no sexual content, no nsfw, not nsfw, water butt
"""
"""What would be found and means none of it."""
