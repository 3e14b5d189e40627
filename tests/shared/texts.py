"""Over a thousand strings that tokenizers part on: scripts, code, digits, white space, markup.

All are in NFC: Qwen's tokenizer.json composes what it reads and llama.cpp does not, so a decomposed
text has other ids there (our own prompts are tokenized by the checkpoint's tokenizer).
"""

import random
import textwrap
import unicodedata
from collections.abc import Iterator

PROSE = (
    "The image shows a red bicycle leaning against a wall; it isn't locked, and nobody's near.",
    "What's in this picture? I can't tell, but they've said we'd better look twice.",
    "“Quoted” text — with dashes… and naïve façades, Ångström, Łódź, smörgåsbord, crème brûlée.",
    "HE'LL SAY THAT I'M WRONG, AND THAT WE'VE BEEN LATE. DON'T!",
    "Der schnelle braune Fuchs springt über den faulen Hund, während die Größe 42½ passt.",
    "Быстрая коричневая лиса прыгает через ленивую собаку. Ελληνικά και Türkçe, İstanbul'da.",
    "हिन्दी में एक छोटा वाक्य, ภาษาไทยไม่มีช่องว่าง, Tiếng Việt có dấu, עברית מימין לשמאל.",
)
KOREAN = (
    "사진 속에는 빨간 자전거가 벽에 기대어 있고, 옆에 3명의 아이가 서 있습니다. "
    "몇 시예요? 값이 12,500원입니다!"
)
JAPANESE = (
    "写真には赤い自転車が写っています。何台ありますか？"
    "カタカナとひらがな、ｶﾀｶﾅ、2024年5月3日（金）です。"
)
ARABIC = (
    "تُظهِر الصورة دراجة حمراء بجانب الجدار، كم عددها؟ السعر ١٢٫٥٠ ريالًا، والسلام عليكم ورحمة الله!"
)
CHINESE = "图片里有一辆红色的自行车靠在墙上，旁边站着三个孩子。现在几点了？价格是１２５元。"
EMOJI = (
    "😀 😂🤣 ❤️ 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇰🇷🇯🇵 ✅❌ ☕️ 🧑🏿‍🚀 ♟ 1️⃣2️⃣ 🔥🔥🔥",
    "so happy!!! 🎉🎉(not really) 🙃 → 🚲 = bicycle; ©®™ ½ ² ∑ ≠ ∞ ℝ",
)
CODE = textwrap.dedent(
    '''
    def shapes(vlm: Vlm) -> dict[str, Shape]:
        """Every tensor."""
        parts = [*_tower(vlm.vision), *_decoder(vlm.text)]
        return {name: (rows, 0x1F & ~columns) for name, (rows, columns) in parts if rows != 12_000}

    for (let i = 0; i < n; ++i) { console.log(`x=${a[i]}\\t${b?.c ?? "none"}`); } // done
    #include <stdio.h>
    int main(void) { printf("%5.2f%%\\n", 3.14159e-10); return !!errno ? -1 : 0; }
    SELECT name, COUNT(*) FROM "users" WHERE age >= 18 AND email LIKE '%@example.com' GROUP BY 1;
    <div class="a b" data-x='{"k": [1, 2, {"z": null}]}'>&nbsp;<!-- note --></div>
    {"type": "object", "items": [], "n": -1.5E+3, "path": "C:\\\\temp\\\\x", "ok": true}
    $ git log --oneline -n 5 | grep -E '^[0-9a-f]{7} ' && echo "$?" > /dev/null 2>&1
    \tmov\teax, [rbp-0x8]\t; load
    \\begin{equation} e^{i\\pi} + 1 = 0 \\end{equation}
    '''
)
SPACES = (" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2009")


def texts(special: tuple[str, ...], seed: int = 0) -> list[str]:
    """The strings, with each of the tokenizer's `special` tokens inside chat templates."""
    random_ = random.Random(seed)
    found = [
        *_lines(),
        *_numbers(random_),
        *_white_space(random_),
        *_scripts(random_),
        *_markup(special, random_),
    ]
    return [unicodedata.normalize("NFC", text) for text in dict.fromkeys(found)]


def _lines() -> Iterator[str]:
    for text in (*PROSE, KOREAN, JAPANESE, ARABIC, CHINESE, *EMOJI):
        yield text
        yield from (text[: len(text) // 2], text[len(text) // 3 :], " " + text, text + "\n")
        yield from text.split(" ")
    yield CODE
    for line in CODE.splitlines():
        yield from (line, line.strip(), line + "\n", "  " + line)
    yield "\n".join((*PROSE, KOREAN, CODE, JAPANESE, ARABIC, *EMOJI))


def _numbers(random_: random.Random) -> Iterator[str]:
    for size in range(1, 13):
        digits = "".join(random_.choice("0123456789") for _ in range(size))
        yield from (digits, f"n={digits}.", f" {digits}{digits}", f"{digits}px x {size}.5%")
    yield from ("3.3", "3..3", "3...3", "1,000,000", "1e-5", "٣٤٥", "１２３", "²³", "½", "Ⅷ", "2nd")


def _white_space(random_: random.Random) -> Iterator[str]:
    for size in range(1, 45):
        yield from ("a" + " " * size + "b", " " * size, "\t" * size, "x" + "\n" * size + "y")
    for _ in range(120):
        run = "".join(random_.choice(SPACES) for _ in range(random_.randint(1, 7)))
        yield from (f"a{run}b", f"{run}the", f"end.{run}")


def _scripts(random_: random.Random) -> Iterator[str]:
    ranges = ((0xAC00, 0xD7A3), (0x3041, 0x30FA), (0x4E00, 0x9FA5), (0x0621, 0x064A), (0x20, 0x7E))
    faces = (0x1F300, 0x1F64F)
    for _ in range(40):
        for first, last in (*ranges, faces):
            size = random_.randint(1, 12)
            yield "".join(chr(random_.randint(first, last)) for _ in range(size))
        words = [
            "".join(chr(random_.randint(*random_.choice((*ranges, faces)))) for _ in range(4))
            for _ in range(5)
        ]
        yield random_.choice(("", " ", "\n", "'s ", "1")).join(words)


def _markup(special: tuple[str, ...], random_: random.Random) -> Iterator[str]:
    for token in special:
        yield from (token, f"user\n{token}what is it?", f"a {token} b", f"\n\n{token}{token}\n\n")
        yield from (f"{token}assistant\n", token[:-1], token[1:])
        yield f"User:{token}42 cats.\nAssistant:"
    for _ in range(60 if special else 0):
        first, second, third, last = random_.choices(special, k=4)
        yield f"{first}{random_.choice(PROSE)}{second}\n{third}{KOREAN}{last}"
