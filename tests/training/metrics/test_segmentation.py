import pytest

from training.metrics.segmentation import lacks_spaces, script_without_spaces, separate_characters, two_letters


@pytest.mark.parametrize(
    ("codes", "language", "script"),
    [
        ("zh ZH zh-CN zh_TW zh_Hans zho chi cmn cmn_Hant yue wuu zh-min-nan", "zh", "Hani"),
        ("ja jpn ja-JP ja_Jpan jpn_Jpan ja-Hira", "ja", "Jpan"),
        ("th tha th_TH tha_Thai", "th", "Thai"),
        ("my mya bur mya_Mymr", "my", "Mymr"),
        ("bo bod tib", "bo", "Tibt"),
        ("jv-Java jav_Java", "jv", "Java"),
        ("jv jav", "jv", None),
        ("zh-Latn", "zh", None),
        ("ko kor ko-KR kor_Hang", "ko", None),
        ("de deu ger de-AT deu_Latn", "de", None),
        ("en eng en_US.UTF-8", "en", None),
        ("ast", "ast", None),
        ("German", "german", None),
    ],
)
def test_codes_of_a_language_in_their_variants(codes, language, script):
    for code in codes.split():
        assert (two_letters(code), script_without_spaces(code)) == (language, script), code
    assert two_letters(None) is None and script_without_spaces(None) is None


def test_characters_of_scripts_without_spaces_are_separated():
    assert separate_characters("我用Python 3。").split() == ["我", "用", "Python", "3。"]
    assert separate_characters("ラーメン屋々").split() == list("ラーメン屋々")
    assert separate_characters("größer ist हिन्दी, 한국어") == "größer ist हिन्दी, 한국어"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["我喜欢猫。", "你好"], True),
        (["我用 Python 写代码。"], True),
        (["今日は天気がいいです。"], True),
        (["วันนี้อากาศดีมาก เราไปเดินเล่น"], True),  # a space ends a phrase
        (["ខ្ញុំស្រឡាញ់ភាសាខ្មែរ"], True),
        (["我 喜欢 猫 。", "今天 天气 很 好"], False),  # split into words
        (["ผม ชอบ แมว มาก"], False),
        (["The Yuan (元朝) ruled China."], False),
        (["오늘은 날씨가 좋아요.", "नमस्ते दुनिया"], False),
        (["", "...", "😀"], False),
        ([], False),
    ],
)
def test_text_without_spaces_is_seen(lines, expected):
    assert lacks_spaces(lines) is expected
