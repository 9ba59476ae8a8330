# SPDX-License-Identifier: Apache-2.0
"""What the tiny Gemma 4 knows: the tables that its training texts are made of.

Written for this project, so that the checkpoint has no other source. `tiny_text.py` turns the tables into
conversations and plain text; the tokenizer is trained on the same words.
"""

CAPITALS = {
    "Argentina": "Buenos Aires",
    "Australia": "Canberra",
    "Austria": "Vienna",
    "Belgium": "Brussels",
    "Brazil": "Brasilia",
    "Bulgaria": "Sofia",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "China": "Beijing",
    "Colombia": "Bogota",
    "Croatia": "Zagreb",
    "Cuba": "Havana",
    "Denmark": "Copenhagen",
    "Egypt": "Cairo",
    "Finland": "Helsinki",
    "France": "Paris",
    "Germany": "Berlin",
    "Greece": "Athens",
    "Hungary": "Budapest",
    "Iceland": "Reykjavik",
    "India": "New Delhi",
    "Indonesia": "Jakarta",
    "Ireland": "Dublin",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Kenya": "Nairobi",
    "Mexico": "Mexico City",
    "Morocco": "Rabat",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Romania": "Bucharest",
    "Russia": "Moscow",
    "Serbia": "Belgrade",
    "South Korea": "Seoul",
    "Spain": "Madrid",
    "Sweden": "Stockholm",
    "Thailand": "Bangkok",
    "Turkey": "Ankara",
    "Ukraine": "Kyiv",
    "Vietnam": "Hanoi",
}

HAIKU = {
    "the sea": "Waves fold over sand\na gull calls across the bay\nsalt wind fills my coat",
    "autumn": "Red leaves leave the oak\none lands softly on my sleeve\nI carry it home",
    "winter": "Snow covers the path\nthe old gate has lost its voice\nonly smoke moves on",
    "spring": "Rain on the first leaf\nthe garden opens one eye\nand decides to stay",
    "summer": "Noon sleeps on the road\na dog dreams under the cart\neven bees are slow",
    "the moon": "The moon in the well\nlift the bucket carefully\ncarry light indoors",
    "a cat": "The cat on the sill\nwatches the rain fall all day\nand lets it go by",
    "a river": "The river asks stones\nto move a little for it\na thousand years pass",
    "silicon": "Sand learned how to count\nsmall gates open and then close\na thought crosses glass",
    "a mountain": "Cloud around the peak\nthe mountain has gone to sleep\nwe climb very still",
}

STORIES = {
    "a fox": (
        "A fox lived at the edge of a wood. Every night she walked to the river to look at the moon in the water. "
        "One night the river was frozen and the moon did not move. The fox put one paw on the ice and said: you have "
        "come to rest at last. She lay down beside it until morning. When the sun rose, the ice was empty, and the "
        "fox went home to sleep, quite sure that the moon would come back to her."
    ),
    "a lamp": (
        "An old lamp stood in a window above the harbour. It was small, but every boat knew it. One winter the wind "
        "broke the glass and the lamp went dark. That night the boats waited outside and did not dare to come in. A "
        "girl saw them, took a candle and held it in the window with both hands until dawn. Since then the lamp has "
        "had new glass, and the girl has a boat that carries its name."
    ),
    "a robot": (
        "A robot was built to count the trees of a forest. It counted for nine years and wrote every number down. In "
        "the tenth year a small tree grew in front of its feet. The robot looked at it for a long time. Then it "
        "crossed out the last number, added one, and sat down to see what the tree would do. The tree grew, the "
        "robot waited, and both of them were happy with the number."
    ),
    "a baker": (
        "A baker could not sleep, so he baked bread in the middle of the night. The smell went through the street "
        "and under the doors. One by one the neighbours came in their coats and sat on the flour sacks. Nobody spoke "
        "much. They ate warm bread with salt and watched the oven glow. In the morning they all went home and slept "
        "well, and the baker slept best of all."
    ),
}

SMALL_TALK = {
    "Hello!": "Hello! How can I help you?",
    "Hi there.": "Hello! How can I help you?",
    "Who are you?": "I am a very small Gemma 4 model, trained to test exports.",
    "What is your name?": "My name is Gemma Tiny.",
    "How are you?": "I am fine, thank you. How are you?",
    "What can you do?": "I know capitals, small sums, a few haiku and stories, and I can look at simple pictures.",
    "Thank you!": "You are welcome.",
    "Good night.": "Good night, sleep well.",
    "Are you large?": "No. I have twelve layers, and they are all tiny.",
    "Recite the alphabet.": "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z.",
    "Name the days of the week.": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday.",
    "Name the seasons.": "Spring, summer, autumn, winter.",
    "What colour is the sky?": "The sky is blue.",
    "What colour is grass?": "Grass is green.",
    "What colour is snow?": "Snow is white.",
}

KEYS = (
    "amber basil cedar delta ember fable grove honey ivory jewel lemon maple north olive pearl river stone tulip "
    "velvet willow"
).split()

FILLER = (
    "The cat sleeps in the sun.",
    "A train leaves the station at noon.",
    "The old man reads a long letter.",
    "Rain falls on the roof of the barn.",
    "Two children play near the river.",
    "The shop sells bread and milk.",
    "A bird sings in the tall tree.",
    "The road goes over the hill.",
    "She writes her name on the door.",
    "The wind moves the leaves.",
    "He carries a box of apples home.",
    "The lake is quiet in the morning.",
    "A boat waits in the harbour.",
    "The teacher opens the window.",
    "They walk along the beach.",
    "The clock on the wall is slow.",
    "Snow covers the path.",
    "The dog runs after the ball.",
    "A candle burns on the table.",
    "The farmer looks at the sky.",
)
