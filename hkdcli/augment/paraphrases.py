"""The bank of paraphrases: for each fixed text of a record other ways to put it that mean the same.

Every text asks for the same thing, the same way round (which choices ARE hallucinated), and none of them
hints at an answer. Plain ASCII.
"""

from __future__ import annotations

from functools import lru_cache

from hkdcli.data.prompts import INSTRUCTION_FACTUALITY, INSTRUCTION_HALLUCINATION

Bank = tuple[tuple[str, ...], ...]
"""Groups of texts that mean the same."""

QUESTIONS: Bank = (
    (
        "Which of the following systems' outputs belong to hallucination?",
        "Which of the following outputs of the system are hallucinations?",
        "Which of the following are hallucinated?",
        "Which of the choices below are hallucinations?",
        "Which of these parts of the system's output are hallucinated?",
        "Which of these choices belong to hallucination?",
        "Which of the outputs below belong to hallucination?",
        "Which parts of the output are hallucinations?",
        "Find the choices that are hallucinations.",
        "Select the hallucinated choices.",
        "Name the outputs that belong to hallucination.",
        "Please decide which of the following are hallucinations.",
        "Please point out which of the listed outputs are hallucinated.",
    ),
    (
        "Based on the provided information, please determine whether the claim is factual.",
        "Please determine, based on the provided information, whether the claim is factual.",
        "Given the information provided, determine whether the claim is factual.",
        "Using the provided information, decide whether the claim is factual.",
        "From the information given, please judge whether the claim is factual.",
        "Please check whether the claim is factual, based on the information provided.",
        "Determine from the provided information if the claim is factual.",
        "Judge the factuality of the claim based on the information provided.",
        "On the basis of the information provided, assess whether the claim is factual.",
        "Is the claim factual? Please decide on the basis of the provided information.",
        "Assess the factuality of the claim, given the information provided.",
        "How factual is the claim, based on the provided information?",
        "Please rate the claim's factuality on the basis of the information given.",
    ),
)
"""What is asked of the judge."""

CAPTION_QUESTIONS: Bank = (
    (
        "Describe the image.",
        "Describe this image.",
        "Please describe the image.",
        "Please describe this image.",
        "Describe the picture.",
        "Describe the given image.",
        "Give a description of the image.",
        "Provide a description of the image.",
        "Provide a description of the given image.",
        "What does the image show?",
        "What does the picture show?",
        "What is shown in the image?",
    ),
    (
        "What is in the picture?",
        "What is in the image?",
        "What is in this picture?",
        "What is in this image?",
        "What is there in the picture?",
        "What is there in the image?",
        "What can be seen in the picture?",
        "What can be seen in the image?",
        "What do you see in the picture?",
        "What do you see in the image?",
        "What does the picture contain?",
        "What does the image contain?",
    ),
    (
        "Provide a brief description of the given image.",
        "Provide a brief description of the image.",
        "Give a brief description of the image.",
        "Give a brief description of the given image.",
        "Write a brief description of the image.",
        "Describe the image briefly.",
        "Describe the given image briefly.",
        "Please describe the image briefly.",
        "Briefly describe the image.",
        "Briefly describe the given image.",
        "Please give a brief description of this image.",
        "Please provide a brief description of the image.",
    ),
    (
        "Describe the image in one sentence.",
        "Describe this image in one sentence.",
        "Please describe the image in one sentence.",
        "In one sentence, describe the image.",
        "Describe the given image in one sentence.",
        "Describe the picture in one sentence.",
        "Give a description of the image in one sentence.",
        "Give a one-sentence description of the image.",
        "Provide a one-sentence description of the image.",
        "Write one sentence that describes the image.",
        "Summarize the image in one sentence.",
        "What does the image show, in one sentence?",
    ),
    (
        "Generate a short caption of the image.",
        "Generate a short caption for the image.",
        "Write a short caption for the image.",
        "Write a short caption of the image.",
        "Give a short caption of the image.",
        "Give the image a short caption.",
        "Provide a short caption of the image.",
        "Provide a short caption for the given image.",
        "Please write a short caption for this image.",
        "Please generate a short caption of the image.",
        "Caption the image in a few words.",
        "Come up with a short caption for the image.",
    ),
    (
        "Please describe this image in detail.",
        "Please describe the image in detail.",
        "Describe this image in detail.",
        "Describe the image in detail.",
        "Describe the given image in detail.",
        "Describe the picture in detail.",
        "Give a detailed description of the image.",
        "Give a detailed description of this image.",
        "Provide a detailed description of the image.",
        "Provide a detailed description of the given image.",
        "Please give a detailed description of the image.",
        "Write a detailed description of the image.",
    ),
)
"""What captions answer, where it says nothing of the picture."""

INSTRUCTIONS: Bank = (
    (
        INSTRUCTION_HALLUCINATION,
        "Which parts of the caption does the image contradict? Answer with the letters.",
        "Find the phrases of the caption that the image contradicts. Give their letters.",
        "Look at the image. Which phrases of the caption are contradicted by it? Answer with the letters.",
        "Check each phrase of the caption against the image. Give the letters of those that it contradicts.",
        "Compare caption and image. Which phrases does the image contradict? Reply with the letters.",
        "Which phrases of the caption are hallucinated, given the image? Answer with the letters.",
        "Name the letters of the phrases in the caption that the image contradicts.",
        "Select the phrases of the caption that the image contradicts. Answer with the letters alone.",
        "The caption describes the image. Which of its phrases does the image contradict? Give the letters.",
        "Which of the caption's phrases are contradicted by the image? Write the letters.",
        "Judge the phrases of the caption by the image. Answer with the letters of those it contradicts.",
        "Decide which phrases of the caption are hallucinations in view of the image. Give the letters.",
    ),
    (
        INSTRUCTION_FACTUALITY,
        "Given the image and the context, is the claim true? Answer with one letter.",
        "Judge the claim by the image and the context. Answer with one letter.",
        "Decide whether the claim is true, given the image and the context. Give one letter.",
        "How true is the claim, given the image and the context? Answer with one letter.",
        "Check the claim against the image and the context. Reply with one letter.",
        "Compare the claim with the image and the context. Answer with one letter.",
        "Is the claim factual, given the context and the image? Answer with one letter.",
        "Look at the image and read the context. Is the claim true? Answer with one letter.",
        "Using the image and the context, assess whether the claim is true. Answer with one letter.",
        "Which verdict on the claim do the image and the context allow? Answer with one letter.",
        "Based on the image and the context, judge the claim. Give the letter of the verdict.",
        "Verify the claim with the image and the context. Write one letter.",
    ),
)
"""What the prompt says first: hallucination, then factuality."""


@lru_cache(maxsize=1024)
def find_paraphrases(bank: Bank, text: str) -> tuple[str, ...]:
    """Other texts that mean the same as one of a bank.

    Args:
        bank: where to look.
        text: compared without case and with single blanks.

    Returns:
        The rest of its group, in order; empty where the bank does not know the text.
    """
    for group in bank:
        rest = tuple(each for each in group if _fold(each) != _fold(text))
        if len(rest) < len(group):
            return rest
    return ()


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()
