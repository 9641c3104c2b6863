"""Prompts that ask for captions, transcripts and short answers; one is drawn uniformly (Molmo2 §2.3).

They vary in tone and care as people's own requests do. Those for videos are the image ones with another word, so no
template here says "an image". Where a moment is given in seconds, "seconds" follows the last number.
"""

_IMAGE_WORDS = ("image", "picture", "photo")


def for_video(templates: tuple[str, ...]) -> tuple[str, ...]:
    """The templates with "video" for each image, picture and photo."""
    for word in _IMAGE_WORDS:
        templates = tuple(template.replace(word, "video") for template in templates)
    return templates


def in_seconds(templates: tuple[str, ...], field: str) -> tuple[str, ...]:
    """The templates with "seconds" behind the field, which is the last time in each."""
    return tuple(template.replace(f"{{{field}}}", f"{{{field}}} seconds") for template in templates)


LONG_CAPTION = (
    "Describe this image in detail.",
    "Give me a thorough description of the image.",
    "What is going on in this picture? Tell me everything you notice.",
    "Please write a long caption for this photo.",
    "Walk me through everything that can be seen in this image.",
    "I can't see the picture. Describe it to me as fully as you can.",
    "Write a detailed caption.",
    "Describe the whole picture, including the small things.",
    "Provide a rich account of what this image shows.",
    "Caption this photo at length, leaving nothing out.",
    "Tell me about this image in as much detail as possible.",
    "Could you describe what the picture shows, from the main subject to the background?",
    "long caption please",
    "Explain in several sentences what this photo contains.",
    "What does this image show? Be exhaustive.",
    "Compose a paragraph or more that describes this picture.",
    "I need a complete description of this image for someone who is blind.",
    "Look closely and report all that you see in the photo.",
    "Put the content of this image into words, with every detail.",
    "describe this picture with lots of details",
    "Give an extensive summary of what appears in the image, where it is and what it looks like.",
    "Which objects, people, colors, actions and texts does this photo show? Describe them all.",
    "Generate a dense caption for the image.",
)

SHORT_CAPTION = (
    "Describe this image briefly.",
    "Give me a short caption for the picture.",
    "In one sentence, what does this photo show?",
    "Sum up the image in a few words.",
    "short caption please",
    "What is this a picture of? Keep it short.",
    "Write a brief caption for this image.",
    "Tell me in a sentence or two what the photo is about.",
    "Quick summary of this picture, please.",
    "Caption the image concisely.",
    "What is the gist of this image?",
)

VIDEO_TRANSCRIPT = (
    "What would a narrator say while watching this video?",
    "Talk me through this video as if you were speaking aloud.",
    "Describe the video the way somebody would in speech.",
    "Give a spoken-style account of what happens in the video.",
    "Narrate this video in your own words.",
)

VIDEO_MOTION_CAPTION = (
    "Describe the movements in this video.",
    "What moves in the video, and how?",
    "Give a detailed account of all motion in this clip.",
    "Tell me about every action and movement that you see.",
    "How do the people and objects in this video move over time?",
    "Focus on motion: what happens in the video?",
    "Write a caption about the movements in the video, those of the camera included.",
    "Report the actions in this video in the order in which they happen.",
    "Which motions does the video show? Describe their direction and pace.",
    "Caption only what is moving in this video.",
)

VIDEO_OBJECT_CAPTION = (
    "Describe {object} in this video.",
    "What does {object} look like, and what happens to it in the video?",
    "Tell me all about {object} as seen in the video.",
    "Give a detailed caption that is only about {object}.",
    "Follow {object} through the video and report what you see.",
    "Write a description of {object}, from its looks to what it does.",
    "What can you say about {object} in this clip?",
    "Focus on {object}. What happens?",
    "Please caption {object} in the video.",
    "How does {object} appear and change during this video?",
)

FRAME_CAPTION = (
    "Describe what the video shows at {timestamp}.",
    "What can be seen at {timestamp}?",
    "Caption the frame at {timestamp}.",
    "What is happening in the video at {timestamp}?",
    "Give me a detailed description of the moment at {timestamp}.",
    "Pause the video at {timestamp}. What do you see?",
    "Tell me about the frame that appears at {timestamp}.",
    "Look at {timestamp} and describe the scene.",
    "Write a caption for the still at {timestamp}.",
    "If I jump to {timestamp}, what will be on screen?",
    "Which things are visible in the video at {timestamp}? Describe them.",
    "frame caption at {timestamp}",
    "Explain what the viewer sees at {timestamp}.",
)
FRAME_CAPTION_SECONDS = in_seconds(FRAME_CAPTION, "timestamp")

CLIP_CAPTION = (
    "Describe the video from {start_time} to {end_time}.",
    "What happens between {start_time} and {end_time}?",
    "Caption the segment from {start_time} to {end_time}.",
    "Give me a detailed description of the clip that starts at {start_time} and ends at {end_time}.",
    "Tell me what can be seen from {start_time} until {end_time}.",
    "Summarize the part of the video between {start_time} and {end_time}.",
    "Watch from {start_time} to {end_time} and report what you see.",
    "What is shown in the video in the interval {start_time} to {end_time}?",
    "Write a caption for {start_time} - {end_time}.",
    "Between {start_time} and {end_time}, what is going on in the video?",
    "Describe everything that takes place from {start_time} through {end_time}.",
    "Please caption the section that begins at {start_time} and stops at {end_time}.",
    "Explain what the viewer sees from {start_time} up to {end_time}.",
    "What goes on after {start_time} and before {end_time}?",
    "Focus on {start_time} to {end_time} only. What happens there?",
    "I missed the part from {start_time} to {end_time}. What did it show?",
    "Describe only the stretch between {start_time} and {end_time}.",
    "Which events does the video show from {start_time} to {end_time}?",
    "Give an account of the scene from {start_time} to {end_time}.",
    "If I play the video from {start_time} to {end_time}, what will I see?",
    "clip caption, {start_time} to {end_time}",
)
CLIP_CAPTION_SECONDS = in_seconds(CLIP_CAPTION, "end_time")

CLIP_TRANSCRIPT = (
    "What would a narrator say about the video from {start_time} to {end_time}?",
    "Narrate the part between {start_time} and {end_time}.",
    "Talk me through what happens from {start_time} until {end_time}.",
    "Give a spoken-style account of the segment from {start_time} to {end_time}.",
    "Describe the video between {start_time} and {end_time} as if you were speaking aloud.",
)
CLIP_TRANSCRIPT_SECONDS = in_seconds(CLIP_TRANSCRIPT, "end_time")

VIDEO_SHORT_ANSWER = (
    "{question} Answer briefly.",
    "{question}\nGive a short answer.",
    "{question} Reply with a word or a short phrase.",
    "{question}\nKeep the answer short.",
    "{question} (short answer)",
    "{question} A few words are enough.",
    "Answer in as few words as possible: {question}",
    "Watch the video and answer briefly.\n{question}",
    "Question: {question}\nShort answer:",
    "Q: {question}\nReply with a brief phrase.",
    "Give a brief answer to this question about the video: {question}",
    "{question} Just the answer, please.",
    "{question}\nNo full sentence is needed.",
    "In a few words: {question}",
    "Respond concisely. {question}",
)

WITH_EXPLANATION = "{question}\nReason about it first, then finish with your answer."
"""The only form for styles whose answer comes behind its explanation."""
