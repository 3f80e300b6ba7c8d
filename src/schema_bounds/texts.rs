//! Texts close to good ones: a character exchanged, put in or left out, and other lengths.

/// Characters that rules distinguish, beside ASCII: of other scripts, invisible, of several bytes.
const ODD: [char; 10] = ['\u{a0}', 'é', '\u{200b}', '\u{202e}', '٣', '３', 'ت', '\u{fffd}', '\u{2028}', '😀'];

/// Lengths around the bounds that texts have here.
const LENGTHS: [usize; 22] =
    [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 15, 16, 17, 20, 21, 64, 65, 100, 101, 128, 200, 201];

/// `base` and texts close to it.
pub(super) fn near(base: &str) -> Vec<String> {
    let probes: Vec<char> = (0..128_u8).map(char::from).chain(ODD).collect();
    let chars: Vec<char> = base.chars().collect();
    let text = |parts: &[&[char]]| parts.concat().into_iter().collect::<String>();
    let mut texts = vec![base.to_owned(), base.to_uppercase(), base.to_lowercase(), base.repeat(2)];
    for at in 0..=chars.len() {
        let (before, behind) = chars.split_at(at);
        texts.extend(probes.iter().map(|probe| text(&[before, &[*probe], behind])));
        texts.push(text(&[before]));
        if let Some((_, rest)) = behind.split_first() {
            texts.push(text(&[before, rest]));
            texts.extend(probes.iter().map(|probe| text(&[before, &[*probe], rest])));
        }
    }
    for filling in ['A', 'a', '7', '-', '_', 'é', '😀'] {
        texts.extend(LENGTHS.map(|length| filling.to_string().repeat(length)));
        texts.extend(LENGTHS.map(|length| format!("+{}", filling.to_string().repeat(length))));
    }
    texts
}
