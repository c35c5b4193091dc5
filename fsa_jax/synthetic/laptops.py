"""The lexicon of laptop reviews."""

from __future__ import annotations

from fsa_jax.synthetic.lexicon import Domain, Facet, facts, phrases, terms, words

BATTERY = Facet(
    category="BATTERY#OPERATION_PERFORMANCE",
    aspects=("Battery, Performance",),
    weight=1.8,
    terms=terms("battery, battery life, charger, power adapter, power cord, charging speed, power brick, battery pack"),
    words={
        "positive": words("long lasting, powerful, durable, reliable, fast, efficient, enduring, dependable"),
        "negative": words("short, unreliable, hot, weak, faulty, bulky, defective!, feeble, short lived, sluggish"),
        "neutral": words("removable, built in"),
    },
    facts={
        "positive": facts(
            """
            the {t} got me through a flight to tokyo = the battery lasts long
            i leave the cable at home because of the {t} = the battery lasts long
            the {t} lasts from breakfast to bedtime = the battery lasts long!
            i plug in the {t} once a week = the battery lasts long
            the {t} is full again in {short} = the battery charges fast
            the {t} lasts {ages} = the battery lasts long
            after {years} the {t} still holds = the battery is durable
            """
        ),
        "negative": facts(
            """
            the {t} died in the middle of my exam = the battery is not reliable!
            i have to sit next to an outlet because of the {t} = the battery does not last
            the {t} was empty before lunch = the battery does not last
            the {t} needs {long} to reach half = the battery charges slowly
            the {t} lasts {moment} = the battery does not last
            the {t} smelled of burnt plastic = the battery is not safe!
            the {t} gave up after {months} = the battery is not durable
            i bought two replacements for the {t} = the battery is not durable
            the {t} dropped from half to nothing in {short} = the battery does not last
            """
        ),
        "neutral": facts(
            """
            the {t} is in the back = the user only describes the battery
            the {t} comes in the box = the user only mentions the battery
            """
        ),
    },
)

DISPLAY = Facet(
    category="DISPLAY#QUALITY",
    aspects=("Display, Quality",),
    weight=1.8,
    terms=terms(
        """screen, display, resolution, colors+, panel, monitor, picture, brightness, viewing angles+, pixels+,
        touchscreen, backlight"""
    ),
    words={
        "positive": words(
            """bright, sharp, clear, crisp, vivid, gorgeous!, beautiful, vibrant, stunning!, crystal clear,
            accurate, lush"""
        ),
        "negative": words(
            "dim, blurry, dull, grainy, washed out, scratched, glitchy, faded, fuzzy, patchy, smeary, murky"
        ),
        "neutral": words("glossy, matte"),
    },
    facts={
        "positive": facts(
            """
            i can edit photos on the {t} all day = the display is excellent
            i can read the {t} in full sun = the display is bright
            my friends stop and stare at the {t} = the display is beautiful
            i sold my television because of the {t} = the display is excellent!
            i see details on the {t} i never saw before = the display is sharp
            """
        ),
        "negative": facts(
            """
            the {t} had a dead line on day one = the display is defective!
            i get a headache from the {t} = the display is not comfortable
            the {t} flickers whenever i scroll = the display is defective
            i can see my own face better than the {t} = the display reflects too much
            i have to squint at the {t} = the display is hard to read
            the {t} went black after {months} = the display is defective!
            everything looks yellow on the {t} = the display has bad colors
            """
        ),
        "neutral": facts("the {t} measures fifteen inches = the user only describes the display"),
    },
)

INPUT = Facet(
    category="KEYBOARD#USABILITY",
    aspects=("Keyboard, Usability", "Input, Usability"),
    weight=1.6,
    terms=terms(
        """keyboard, touchpad, keys+, trackpad, mouse, space bar, mouse buttons+, number pad, stylus,
        trackpoint, key travel, function keys+"""
    ),
    words={
        "positive": words(
            "responsive, comfortable, smooth, precise, quiet, tactile, snappy, ergonomic, clicky, springy"
        ),
        "negative": words(
            "sticky, stiff, mushy, unresponsive, cramped, jumpy, wobbly, flimsy, erratic, spongy, twitchy"
        ),
        "neutral": words("backlit, black"),
    },
    facts={
        "positive": facts(
            """
            i wrote a whole novel on the {t} = the keyboard is comfortable
            i type twice as fast with the {t} = the keyboard is comfortable
            my fingers find the {t} in the dark = the keyboard is well laid out
            i gave away my external mouse because of the {t} = the input is precise
            """
        ),
        "negative": facts(
            """
            the {t} types letters that i never touched = the keyboard is defective!
            i had to buy a usb replacement for the {t} = the keyboard is not usable
            the {t} came loose after {months} = the keyboard is badly made
            my wrists ache after {short} with the {t} = the keyboard is not comfortable
            the cursor runs away whenever i brush the {t} = the input is not precise
            i press the {t} {many} times before anything happens = the input does not respond
            the {t} lost its letters in {months} = the keyboard is badly made
            """
        ),
        "neutral": facts("the {t} has a second layout = the user only describes the keyboard"),
    },
)

PERFORMANCE = Facet(
    category="LAPTOP#OPERATION_PERFORMANCE",
    aspects=("Performance", "Performance, Speed"),
    weight=2.5,
    coined=True,
    modifiers=("internal", "intel", "dual", "new"),
    terms=terms(
        """processor, hard drive, graphics card, memory, performance, ram, speed, fan, boot time, ssd, cpu, motherboard,
        cooling, startup, video card, gpu, disk, chipset, cooling system, bios"""
    ),
    words={
        "positive": words(
            "fast, quick, powerful, quiet, speedy, snappy, stable, zippy, cool, blazing!, silent, nimble, robust"
        ),
        "negative": words(
            """slow, loud, noisy, hot, laggy, unstable, underpowered, sluggish, outdated, choppy, glacial!,
            whiny, crash prone"""
        ),
        "neutral": words("integrated, stock"),
    },
    facts={
        "positive": facts(
            """
            the {t} handles every game i throw at it = the performance is strong
            the {t} opens a file in {short} = the performance is fast
            with the {t} it is ready before i sit down = the performance is fast
            i render video in {short} with the {t} = the performance is fast
            i run {many} programs at once thanks to the {t} = the performance is strong
            i forget that the {t} is even there = the machine is silent
            the {t} never skipped a beat in {years} = the performance is reliable
            the {t} left my desktop in the dust = the performance is fast!
            """
        ),
        "negative": facts(
            """
            the {t} opens a file in {long} = the performance is slow
            the {t} crashed and took my thesis with it = the machine is not reliable!
            i could fry an egg on the {t} = the machine gets hot
            i make coffee while the {t} wakes up = the performance is slow
            the {t} sounds like a plane taking off = the machine is loud
            the {t} failed after {months} = the machine is not reliable
            i see the spinning wheel all day because of the {t} = the performance is slow
            my old phone beats the {t} = the performance is weak
            the {t} burned my legs = the machine gets hot!
            i have replaced the {t} {many} times = the machine is not reliable
            """
        ),
        "neutral": facts(
            """
            i upgraded the {t} myself = the user only mentions the part
            the {t} is listed on the box = the user only mentions the part
            it has the {t} of last year's model = the user only describes the part
            """
        ),
    },
)

SUPPORT = Facet(
    category="SUPPORT#QUALITY",
    aspects=("Customer support",),
    weight=1.6,
    terms=terms(
        """customer service, tech support, warranty, support, help desk, repair, technician, shipping, service
        center, agent, return policy, hotline"""
    ),
    words={
        "positive": words(
            """helpful, friendly, quick, knowledgeable, patient, prompt, professional, courteous, competent,
            obliging"""
        ),
        "negative": words(
            "rude!, slow, useless!, unhelpful, clueless, incompetent!, worthless!, arrogant!, evasive, unreachable"
        ),
        "neutral": words("outsourced, online"),
    },
    facts={
        "positive": facts(
            """
            the {t} sent me a new one the next day = the support is quick
            the {t} stayed on the phone until everything ran = the support is patient
            the {t} fixed it in {short} = the support is quick
            the {t} answered after {short} = the support is quick
            the {t} did not charge me a cent = the support is generous
            the {t} called back to check on me = the support is caring
            """
        ),
        "negative": facts(
            """
            the {t} kept me on hold for {long} = the support is slow
            the {t} hung up on me = the support is rude!
            the {t} answered after {long} = the support is slow
            i have written to the {t} {many} times without an answer = the support does not respond
            the {t} told me to buy a new one = the support does not help
            i am still waiting for the {t} after {months} = the support is slow
            the {t} sent it back with the same fault = the support does not help
            the {t} blamed me for the crack = the support is not fair!
            the {t} passed me from desk to desk = the support does not help
            """
        ),
        "neutral": facts(
            """
            i called the {t} = the user only mentions the support
            the {t} is open on weekdays = the user only describes the support
            """
        ),
    },
)

SOFTWARE = Facet(
    category="SOFTWARE#USABILITY",
    aspects=("Software, Usability",),
    weight=1.6,
    terms=terms(
        """windows, operating system, software, drivers+, programs+, interface, updates+, apps+, setup,
        installation, photo editor, firmware, antivirus, os"""
    ),
    words={
        "positive": words(
            "easy, intuitive, stable, user friendly, simple, useful, polished, seamless, painless, versatile"
        ),
        "negative": words(
            "buggy, confusing, bloated, complicated, clunky, unstable, intrusive, outdated, cumbersome, cryptic"
        ),
        "neutral": words("preinstalled, optional"),
    },
    facts={
        "positive": facts(
            """
            my grandmother worked out the {t} in {short} = the software is easy
            i never opened the manual for the {t} = the software is easy
            the {t} found my printer by itself = the software is easy
            the {t} does half of my job for me = the software is useful
            """
        ),
        "negative": facts(
            """
            the {t} deleted my pictures = the software is not reliable!
            it took me {long} to get rid of the {t} = the software is intrusive
            the {t} restarts in the middle of my calls = the software is not reliable
            i get a blue screen from the {t} every {day} = the software is not reliable
            the {t} asks for my password {many} times a day = the software is annoying
            i needed an engineer for the {t} = the software is complicated
            i went back to paper because of the {t} = the software is not usable
            """
        ),
        "neutral": facts(
            """
            the {t} is the home edition = the user only describes the software
            i installed the {t} in spanish = the user only mentions the software
            """
        ),
    },
)

DESIGN = Facet(
    category="LAPTOP#DESIGN_FEATURES",
    aspects=("Design", "Design, Build Quality"),
    weight=1.8,
    terms=terms(
        """design, case, hinge, size, weight, build quality, lid, finish, body, usb ports+, hdmi port, cover,
        webcam, speakers+, sound, card reader, microphone, rubber feet+, latch, bezel"""
    ),
    words={
        "positive": words(
            "light, thin, sleek, sturdy, portable, elegant, compact, attractive, rugged, stylish, handsome, svelte"
        ),
        "negative": words(
            "heavy, flimsy, cheap, bulky, fragile, ugly, plasticky, creaky, clumsy, loose, brittle, gaudy"
        ),
        "neutral": words("silver, plastic, aluminum"),
    },
    facts={
        "positive": facts(
            """
            the {t} survived a fall down the stairs = the build is sturdy
            i forget it is in my bag thanks to the {t} = the machine is light
            strangers ask me about the {t} = the design is beautiful
            the {t} looks new after {years} = the build is sturdy
            my whole family can hear a film from the {t} = the sound is strong
            """
        ),
        "negative": facts(
            """
            the {t} cracked when i opened it = the build is fragile!
            the {t} snapped off after {months} = the build is fragile
            my shoulder hurts because of the {t} = the machine is heavy
            i had to tape the {t} = the build is fragile
            nobody could understand me because of the {t} = the quality is low
            the {t} arrived with a dent = the build is not good
            the {t} shows every fingerprint = the finish is not good
            i need {many} adapters because of the {t} = the design is not practical
            """
        ),
        "neutral": facts(
            """
            the {t} is on the left = the user only describes the design
            the {t} comes in blue too = the user only describes the design
            """
        ),
    },
)

PRICE = Facet(
    category="LAPTOP#PRICE",
    aspects=("Price", "Price, Value for money"),
    weight=1.0,
    terms=terms("price, cost, price tag, value, rebate, extended warranty price, sale price, shipping cost"),
    words={
        "positive": words("reasonable, low, affordable, fair, attractive, unbeatable!, modest, competitive"),
        "negative": words("high, steep, outrageous!, excessive, unjustified, exorbitant!, ridiculous, prohibitive"),
        "neutral": words("usual, listed"),
    },
    facts={
        "positive": facts(
            """
            for the {t} i bought two = the price is low
            i looked twice at the {t} because it seemed a mistake = the price is low
            the {t} left me money for a printer = the price is low
            """
        ),
        "negative": facts(
            """
            i am still paying off the {t} = the price is too high
            you could buy a car for the {t} = the price is too high!
            the {t} dropped by half the week after i paid = the price is not fair
            my wallet cried at the {t} = the price is too high
            """
        ),
        "neutral": facts("the {t} is the same in every shop = the user only describes the price"),
    },
)

LAPTOPS = Domain(
    name="computers",
    whole="laptop",
    facets=(PERFORMANCE, BATTERY, DISPLAY, DESIGN, INPUT, SUPPORT, SOFTWARE, PRICE),
    general_category="LAPTOP#GENERAL",
    general_aspects=("General",),
    general={
        "positive": facts(
            """
            i bought a second one for my wife = the user recommends it
            i would buy it again tomorrow = the user is satisfied
            it goes everywhere with me = the user is satisfied
            i have no plans to replace it = the user is satisfied
            my colleagues all want one now = the user recommends it
            """
        ),
        "negative": facts(
            """
            it went back to the store the same day = the user is not satisfied!
            it makes a good paperweight = the machine is not usable!
            i wish i had kept my old one = the user regrets the purchase
            never buying from them again = the user regrets the purchase!
            it has been in the drawer for {months} = the machine is not usable
            """
        ),
        "neutral": facts("time will tell = the user is undecided"),
    },
    asides=phrases(
        """i bought it at a sale, i use it for school, it replaced my old desktop, my son picked it for college, i have
        had it for {months}, it arrived on a {day}, i mostly write and browse, this is my third computer, i
        am a nurse and travel a lot, so i read reviews for a week"""
    ),
)
