"""The lexicon of restaurant reviews."""

from __future__ import annotations

from fsa_jax.synthetic.lexicon import Domain, Facet, facts, phrases, terms, words

FOOD = Facet(
    category="FOOD#QUALITY",
    aspects=("Food, Quality", "Food, Taste"),
    weight=4,
    coined=True,
    modifiers=phrases(
        """grilled, fried, spicy, house, smoked, braised, lemon, garlic, roasted, stuffed, pulled, crispy, thai, cuban,
        glazed, pickled, baked, truffle, coconut, sesame"""
    ),
    terms=terms(
        """food, pizza, pasta, sushi, burger, chicken, salad, fries+, steak, soup, bread, salmon, tacos+, dessert,
        rice, noodles+, shrimp, lamb, cheesecake, dumplings+, wings+, curry, sandwich, duck, ribs+, lobster, risotto,
        pancakes+, oysters+, brisket, gnocchi, ramen, omelette, scallops+, calamari, ravioli, hummus, burrito, tofu,
        meatballs+, pork belly, tiramisu, crab cakes+, mussels+, falafel, paella, gazpacho, spring rolls+, pierogi,
        bouillabaisse, ceviche, baklava, octopus, empanadas+, okra, schnitzel, flan, samosas+, halibut, cannoli,
        quesadilla, porridge, tempura, kimchi, moussaka, goulash, polenta, beignets+, tagine, sorbet, venison"""
    ),
    words={
        "positive": words(
            """delicious!, tasty, fresh, flavorful, juicy, tender, crispy, yummy, creamy, hot, moist, savory,
            mouthwatering!, scrumptious!, succulent, delectable!, heavenly!, fluffy, zesty, toothsome, piquant,
            velvety, luscious!, well seasoned, finger licking"""
        ),
        "negative": words(
            """cold, bland, dry, greasy, overcooked, salty, soggy, stale, tasteless, tough, burnt, undercooked,
            chewy, rubbery, mushy, oily, inedible!, flavorless, raw, rancid!, gristly, insipid, lukewarm, watery,
            limp, doughy, acrid, stodgy, unpalatable!, cloying"""
        ),
        "neutral": words("mild, plain, room temperature"),
    },
    facts={
        "positive": facts(
            """
            we finished every bite of the {t} = the food is delicious
            i went back for a second helping of the {t} = the food is tasty
            my kids fought over the last bit of {t} = everybody likes the food
            i still dream about the {t} = the food is unforgettable!
            i licked the plate after the {t} = the food is delicious!
            the {t} disappeared from our table in {short} = the food is tasty
            i asked the chef for the recipe of the {t} = the food is excellent
            i would drive {far} for the {t} = the food is worth the trip!
            the {t} reminded me of my grandmother's kitchen = the food tastes of home
            people line up around the block for the {t} = the food is popular
            the {t} made my husband close his eyes and hum = the food is wonderful!
            not a crumb of the {t} was left = the food is tasty
            the {t} came straight from the oven to our table = the food is fresh
            i ordered the {t} three days in a row = the food is addictive
            even my picky daughter asked for more {t} = everybody likes the food
            """
        ),
        "negative": facts(
            """
            i had to send the {t} back = the food is not good
            i left most of the {t} on my plate = the food is not tasty
            there was a hair in the {t} = the food is not clean!
            the {t} gave me a stomach ache = the food is not safe!
            i needed {many} glasses of water after the {t} = the food is too salty
            my dog would not touch the {t} = the food is not edible!
            the {t} tasted of nothing but oil = the food is greasy
            the {t} came straight out of a can = the food is not fresh
            i could have resoled my shoes with the {t} = the food is tough
            we picked bones out of the {t} all night = the food is badly prepared
            the {t} sat under a lamp for {long} = the food is not fresh
            the {t} was still frozen in the middle = the food is undercooked
            i stopped eating the {t} after one bite = the food is not tasty!
            the {t} slid off the fork like glue = the food has a bad texture
            we ended up feeding the {t} to the pigeons = the food is not edible
            i found a piece of plastic in the {t} = the food is not safe!
            """
        ),
        "neutral": facts(
            """
            i ordered the {t} = the user only names the food
            we shared the {t} between us = the user only names the food
            the {t} came with lemon = the user only describes the food
            my friend chose the {t} = the user only names the food
            the {t} is on the second page of the menu = the user only describes the food
            they serve the {t} on weekdays = the user only describes the food
            """
        ),
    },
)

PORTIONS = Facet(
    category="FOOD#STYLE_OPTIONS",
    aspects=("Food, Portion Size", "Food, Options"),
    weight=1,
    terms=terms(
        """portions+, menu, serving size, appetizers+, lunch special, buffet, salad bar, sides+, wine list,
        specials+"""
    ),
    words={
        "positive": words("generous, large, varied, huge, hearty, creative, extensive, ample, bountiful, inventive"),
        "negative": words("small, tiny, limited, skimpy, boring, stingy, repetitive, measly, meager, paltry"),
        "neutral": words("medium, regular"),
    },
    facts={
        "positive": facts(
            """
            we took half of the {t} home in a box = there is plenty to eat
            there is something for everybody in the {t} = there is a lot of choice
            after the {t} i could not finish anything else = there is plenty to eat
            the {t} fed all {many} of us = there is plenty to eat
            it took me {long} to choose from the {t} = there is a lot of choice
            """
        ),
        "negative": facts(
            """
            i was still hungry after the {t} = there is not enough to eat
            we stopped for a burger on the way home after the {t} = there is not enough to eat
            the {t} would not feed a bird = there is not enough to eat!
            half of the {t} was crossed out = there is not much choice
            i counted three leaves in the {t} = there is not enough to eat
            they ran out of the {t} before eight = there is not enough to eat
            """
        ),
        "neutral": facts(
            """
            the {t} changed last month = the user only describes the choice
            we looked at the {t} first = the user only names the choice
            """
        ),
    },
)

DRINKS = Facet(
    category="DRINKS#QUALITY",
    aspects=("Drinks, Quality",),
    weight=1.2,
    modifiers=("iced", "house", "draft", "local", "red", "sparkling"),
    terms=terms(
        """beer, wine, coffee, cocktails+, margaritas+, tea, lemonade, martini, sangria, sake, espresso, milkshake,
        cider, mojito, lassi, hot chocolate, prosecco, horchata, kombucha, mezcal"""
    ),
    words={
        "positive": words("cold, refreshing, smooth, strong, crisp, rich, balanced, aromatic, full bodied"),
        "negative": words("watery, flat, warm, bitter, sour, weak, sugary, murky, watered down, undrinkable!"),
        "neutral": words("light, simple"),
    },
    facts={
        "positive": facts(
            """
            i drank {many} glasses of the {t} = the drinks are tasty
            i bought a bottle of the {t} to take home = the drinks are excellent
            the {t} alone made the evening = the drinks are excellent!
            we kept ordering more {t} = the drinks are tasty
            the {t} woke me right up = the drinks are strong
            """
        ),
        "negative": facts(
            """
            the {t} tasted like dishwater = the drinks are not tasty!
            i poured the {t} into the plant = the drinks are not drinkable
            there was lipstick on my glass of {t} = the glasses are not clean
            the {t} was mostly ice = the drinks are thin
            the {t} gave me a headache = the drinks are cheaply made
            i could not taste any alcohol in the {t} = the drinks are thin
            """
        ),
        "neutral": facts(
            """
            i had the {t} with dinner = the user only names the drink
            we ordered the {t} at the bar = the user only names the drink
            """
        ),
    },
)

SERVICE = Facet(
    category="SERVICE#GENERAL",
    aspects=("Customer service", "Customer service, Attentiveness"),
    weight=3,
    terms=terms(
        """service, waiter, staff, waitress, manager, server, bartender, hostess, delivery, owner, chef, waiters+,
        servers+, cashier, busboy, sommelier, barista, maitre d, kitchen crew, valet"""
    ),
    words={
        "positive": words(
            """friendly, attentive, helpful, quick, polite, fast, kind, prompt, professional, courteous, welcoming,
            efficient, gracious, cheerful, knowledgeable, obliging, personable, hospitable, accommodating, cordial"""
        ),
        "negative": words(
            """rude!, slow, unfriendly, inattentive, arrogant!, careless, pushy, clueless, indifferent, grumpy,
            dismissive, surly, snooty, disorganized, incompetent!, curt, condescending!, aloof, brusque, sloppy"""
        ),
        "neutral": words("busy, quiet, formal"),
    },
    facts={
        "positive": facts(
            """
            the {t} remembered our names = the service is attentive
            the {t} brought us a free dessert = the service is generous
            the {t} refilled our glasses before we asked = the service is attentive
            the {t} took the time to explain every dish = the service is helpful
            the {t} got everything to the table in {short} = the service is quick
            the {t} brought our plates after {short} = the service is quick
            the {t} ran after us with my forgotten scarf = the service is caring!
            the {t} found us a table without a booking = the service is helpful
            the {t} sang for my son's birthday = the service is friendly
            the {t} split the bill {many} ways without blinking = the service is patient
            the {t} warmed the bottle for our baby = the service is caring
            we left the {t} a huge tip = the service is excellent
            the {t} called the next day to ask how we were = the service is caring!
            """
        ),
        "negative": facts(
            """
            we waited {long} for the {t} = the service is slow
            the {t} forgot our order twice = the service is careless
            the {t} never came back with the bill = the service is slow
            the {t} rolled his eyes at my question = the service is rude!
            we had to ask the {t} {many} times for water = the service is not attentive
            the {t} spilled wine on my dress and walked away = the service is rude!
            the {t} took {long} to notice us = the service is slow
            the {t} brought our plates after {long} = the service is slow
            the {t} was texting the whole time = the service is not attentive
            the {t} brought somebody else's plates = the service is careless
            the {t} added a tip to the bill without asking = the service is dishonest
            the {t} hung up on me = the service is rude!
            the {t} put up the chairs while we were eating = the service is not welcoming
            i had to get up and look for the {t} = the service is not attentive
            the {t} argued with the next table = the service is not professional
            the {t} gave our table to someone else = the service is careless
            """
        ),
        "neutral": facts(
            """
            the {t} took our order = the user only mentions the service
            the {t} told us about the specials = the user only mentions the service
            we asked the {t} for the bill = the user only mentions the service
            the {t} wore black = the user only describes the service
            """
        ),
    },
)

AMBIENCE = Facet(
    category="AMBIENCE#GENERAL",
    aspects=("Ambience/Atmosphere", "Environment, Style"),
    weight=1.8,
    terms=terms(
        """atmosphere, decor, music, place, ambience, patio, dining room, vibe, seating, lighting, tables+, bathroom,
        view, interior, chairs+, terrace, garden, booths+, jazz band, candles+, wallpaper, acoustics+"""
    ),
    words={
        "positive": words(
            """cozy, romantic, beautiful, relaxing, clean, charming, comfortable, quiet, stylish, elegant, lively,
            inviting, intimate, serene, tasteful, enchanting!, snug, atmospheric, picturesque, soothing"""
        ),
        "negative": words(
            """noisy, dirty, cramped, loud, filthy!, dark, crowded, uncomfortable, ugly, dated, smelly!, dingy, tacky,
            cluttered, grimy, stuffy, gloomy, garish, drafty, deafening!"""
        ),
        "neutral": words("modern, casual, rustic, simple"),
    },
    facts={
        "positive": facts(
            """
            i could sit in the {t} for hours = the atmosphere is pleasant
            we took a dozen photos of the {t} = the atmosphere is beautiful
            the {t} took me straight back to paris = the atmosphere is charming
            my husband proposed to me because of the {t} = the atmosphere is romantic!
            the {t} made us forget the rain = the atmosphere is pleasant
            the {t} got the whole room dancing = the atmosphere is lively
            """
        ),
        "negative": facts(
            """
            we had to shout over the {t} = the place is loud
            my sleeve stuck to something in the {t} = the place is not clean
            i saw a roach in the {t} = the place is not clean!
            my back hurt after {long} with the {t} = the place is not comfortable
            i could not read the menu because of the {t} = the place is too dark
            the {t} made us leave before dessert = the place is not pleasant!
            the {t} looked like nobody had mopped since spring = the place is not clean
            i bumped elbows with strangers because of the {t} = the place is cramped
            """
        ),
        "neutral": facts(
            """
            the {t} is the same as last year = the user only describes the place
            we looked at the {t} while we waited = the user only mentions the place
            they painted the {t} green = the user only describes the place
            """
        ),
    },
)

PRICE = Facet(
    category="RESTAURANT#PRICES",
    aspects=("Price", "Price, Value for money"),
    weight=1.2,
    terms=terms("prices+, price, bill, check, lunch deal, cover charge, prix fixe, corkage fee, tab, happy hour"),
    words={
        "positive": words("reasonable, cheap, affordable, low, fair, modest, unbeatable!, budget friendly, economical"),
        "negative": words(
            "high, expensive, steep, outrageous!, overpriced, inflated, exorbitant!, extortionate!, unjustified"
        ),
        "neutral": words("usual, moderate"),
    },
    facts={
        "positive": facts(
            """
            the {t} left me money for a second dinner = the price is low
            i looked twice at the {t} because i thought they forgot something = the price is low
            the {t} would be double anywhere else = the price is low
            even on a student budget i smiled at the {t} = the price is low
            the {t} came to {little} for two = the price is low
            """
        ),
        "negative": facts(
            """
            my jaw dropped at the {t} = the price is too high
            i had to sell a kidney for the {t} = the price is too high!
            the {t} came to {lots} for two = the price is too high
            we did not order wine because of the {t} = the price is too high
            for the {t} i could eat for a week at home = the price is too high
            the {t} doubled since last year = the price is too high
            """
        ),
        "neutral": facts(
            """
            the {t} includes tax = the user only describes the price
            we split the {t} = the user only mentions the price
            """
        ),
    },
)

LOCATION = Facet(
    category="LOCATION#GENERAL",
    aspects=("Location",),
    weight=0.7,
    terms=terms("location, parking, neighborhood, parking lot, street, entrance, subway stop, waterfront"),
    words={
        "positive": words("convenient, central, safe, handy, scenic, leafy"),
        "negative": words("inconvenient, dangerous!, remote, sketchy, shady, desolate"),
        "neutral": words("suburban, residential"),
    },
    facts={
        "positive": facts(
            """
            the {t} is {short} from my door = the location is convenient
            the {t} made us walk along the river all evening = the location is beautiful
            i never had to circle for the {t} = the location is convenient
            """
        ),
        "negative": facts(
            """
            we circled {long} because of the {t} = the location is not convenient
            i held my purse tight near the {t} = the location is not safe
            my car was towed thanks to the {t} = the location is not convenient!
            """
        ),
        "neutral": facts("the {t} is next to a bank = the user only describes the location"),
    },
)

RESTAURANTS = Domain(
    name="restaurants",
    whole="restaurant",
    facets=(FOOD, SERVICE, AMBIENCE, DRINKS, PRICE, PORTIONS, LOCATION),
    general_category="RESTAURANT#GENERAL",
    general_aspects=("General",),
    general={
        "positive": facts(
            """
            we will definitely be back = the user wants to return
            i told all my friends to go = the user recommends it
            this is where i take everyone from out of town = the user recommends it
            if only i lived close by = the user wants to return
            i already booked for next week = the user wants to return!
            we are regulars now = the user wants to return
            """
        ),
        "negative": facts(
            """
            i will never set foot in here again = the user does not want to return!
            next time we will eat at home = the user does not want to return
            save your money and go next door = the user warns others
            i want my evening back = the user regrets the visit
            we walked out before the main course = the user regrets the visit!
            never again = the user does not want to return!
            """
        ),
        "neutral": facts("we may or may not come back = the user is undecided"),
    },
    asides=phrases(
        """we went on a {day}, my sister picked it for her birthday, we were a party of {many}, it was raining when we
        arrived, i was in town for a conference, we had tickets for a show later, my parents were visiting,
        we sat down at seven, a friend told me about it years ago, so we drove over after work"""
    ),
)
