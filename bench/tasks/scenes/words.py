"""Words for generated pages: short common nouns that look different from each other."""

ENGLISH = (
    *("apple", "bridge", "candle", "dragon", "engine", "forest", "garden", "harbor", "island"),
    *("jacket", "kettle", "ladder", "mirror", "needle", "orange", "pepper", "quartz", "rocket"),
    *("saddle", "tunnel", "urchin", "velvet", "window", "yellow", "zipper", "anchor", "basket"),
    *("copper", "dinner", "effort", "falcon", "guitar", "hammer", "insect", "jungle", "kitten"),
)
KOREAN = (
    *("사과", "다리", "촛불", "기차", "숲속", "정원", "항구", "섬", "재킷", "주전자", "사다리"),
    *("거울", "바늘", "후추", "수정", "로켓", "안장", "터널", "성게", "창문", "노랑", "지퍼"),
    *("닻", "바구니", "구리", "저녁", "노력", "기타", "망치", "곤충", "밀림", "고양이", "학교"),
    *("병원", "우체국", "도서관", "시장", "약국", "은행", "극장", "공항", "지하철"),
)
