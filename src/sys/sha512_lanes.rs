//! SHA-512 of several messages at once, one in each lane of vector registers.
//!
//! A message's own rounds wait for each other, those of others do not: with
//! AVX-512 eight take little longer than one, with AVX2 four (FIPS 180-4, 6.4).
//! What is hashed so are blocks of files, whose digests others compute again.

#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected;

use sha2::{Digest as _, Sha512};

/// How many messages are worth having together; half of them where there is
/// only AVX2.
pub const LANES: usize = 8;

type Digest = [u8; 64];

/// Whether this processor is faster so than with one message after the other.
pub fn has_lanes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_avx512() || is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// Adds the digests of messages that stand one after the other, of `length`
/// bytes each, which are a multiple of 128.
///
/// # Panics
/// They are not.
pub fn sha512_of_each(messages: &[u8], length: usize, digests: &mut Vec<Digest>) {
    assert!(
        length.is_multiple_of(BLOCK) && messages.len().is_multiple_of(length),
        "{} bytes of messages of {length}",
        messages.len()
    );
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor has the instructions, which was just asked.
        #[allow(unsafe_code)]
        return in_groups(messages, length, digests, |group| unsafe {
            avx512::hash(group)
        });
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        return in_groups(messages, length, digests, |group| unsafe {
            avx2::hash(group)
        });
    }
    digests.extend(messages.chunks(length).map(alone));
}

fn alone(message: &[u8]) -> Digest {
    Sha512::digest(message).into()
}

#[cfg(target_arch = "x86_64")]
fn in_groups<const N: usize>(
    messages: &[u8],
    length: usize,
    digests: &mut Vec<Digest>,
    hash: impl Fn(&[&[u8]; N]) -> [Digest; N],
) {
    /// Fewer messages are as fast one after the other.
    const ENOUGH: usize = 3;
    for group in messages.chunks(length * N) {
        let mut each = group.chunks(length);
        if group.len() < length * ENOUGH {
            digests.extend(each.map(alone));
            continue;
        }
        let first = &group[..length];
        let lanes = std::array::from_fn(|_| each.next().unwrap_or(first));
        digests.extend(&hash(&lanes)[..group.len() / length]);
    }
}

/// Bytes that one compression takes in.
const BLOCK: usize = 128;
/// Words of that.
#[cfg(target_arch = "x86_64")]
const WORDS: usize = BLOCK / 8;

/// One round. Instead of the values their names go round.
#[cfg(target_arch = "x86_64")]
macro_rules! round {
    ($key:expr, $word:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        let sum = xor(
            rotate::<14, 50>($e),
            rotate::<18, 46>($e),
            rotate::<41, 23>($e),
        );
        $h = add(
            add($h, add(splat($key), $word)),
            add(sum, choice($e, $f, $g)),
        );
        $d = add($d, $h);
        let sum = xor(
            rotate::<28, 36>($a),
            rotate::<34, 30>($a),
            rotate::<39, 25>($a),
        );
        $h = add($h, add(sum, majority($a, $b, $c)));
    };
}

/// The message schedule's next words.
#[cfg(target_arch = "x86_64")]
macro_rules! schedule {
    ($block:ident, $($at:literal)*) => {$(
        let (x, y) = ($block[($at + 1) % WORDS], $block[($at + 14) % WORDS]);
        let low = xor(rotate::<1, 63>(x), rotate::<8, 56>(x), shift::<7>(x));
        let high = xor(rotate::<19, 45>(y), rotate::<61, 3>(y), shift::<6>(y));
        let far = $block[($at + 9) % WORDS];
        $block[$at] = add(add($block[$at], low), add(far, high));
    )*};
}

/// `hash` over one instruction set's vectors, which hold the same word of each
/// message.
#[cfg(target_arch = "x86_64")]
macro_rules! hash_in_lanes {
    ($features:literal, $Vector:ident, $lanes:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn hash(messages: &[&[u8]; $lanes]) -> [Digest; $lanes] {
            let mut state = INITIAL.map(|word| splat(word));
            let words = messages.map(|message| message.as_chunks().0);
            for at in (0..words[0].len()).step_by(WORDS) {
                let mut block = [splat(0); WORDS];
                for (word, place) in block.iter_mut().enumerate() {
                    *place = big_endian(words.map(|words| words[at + word]));
                }
                compress(&mut state, block);
            }
            let mut last = [splat(0); WORDS];
            last[0] = splat(1 << 63);
            last[WORDS - 1] = splat(8 * messages[0].len() as u64);
            compress(&mut state, last);
            let words = state.map(|vector| split(vector));
            std::array::from_fn(|lane| {
                let mut digest = [0; 64];
                for (place, word) in digest.chunks_exact_mut(8).zip(&words) {
                    place.copy_from_slice(&word[lane].to_be_bytes());
                }
                digest
            })
        }

        #[target_feature(enable = $features)]
        fn compress(state: &mut [$Vector; 8], mut block: [$Vector; WORDS]) {
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
            for (sixteen, keys) in KEYS.iter().enumerate() {
                if sixteen > 0 {
                    schedule!(block, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
                }
                for half in [0, 8] {
                    let (key, word) = (&keys[half..half + 8], &block[half..half + 8]);
                    round!(key[0], word[0], a b c d e f g h);
                    round!(key[1], word[1], h a b c d e f g);
                    round!(key[2], word[2], g h a b c d e f);
                    round!(key[3], word[3], f g h a b c d e);
                    round!(key[4], word[4], e f g h a b c d);
                    round!(key[5], word[5], d e f g h a b c);
                    round!(key[6], word[6], c d e f g h a b);
                    round!(key[7], word[7], b c d e f g h a);
                }
            }
            for (state, word) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                *state = add(*state, word);
            }
        }
    };
}

/// Functions of one instruction set, to be called where the processor has it.
#[cfg(target_arch = "x86_64")]
macro_rules! instructions {
    ($features:literal; $(fn $name:ident [$($number:ident: $Number:ty),*] ($($value:ident: $Value:ty),*) -> $Result:ty $code:block)*) => {$(
        #[inline]
        #[target_feature(enable = $features)]
        fn $name<$(const $number: $Number),*>($($value: $Value),*) -> $Result $code
    )*};
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    #[allow(clippy::wildcard_imports)] // one prefix, all of which say what they are
    use std::arch::x86_64::*;

    use super::{Digest, INITIAL, KEYS, WORDS};

    hash_in_lanes!("avx512f,avx512bw", __m512i, 8);

    instructions! { "avx512f,avx512bw";
        fn splat[](word: u64) -> __m512i { _mm512_set1_epi64(word.cast_signed()) }
        fn add[](a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi64(a, b) }
        fn rotate[RIGHT: i32, LEFT: i32](a: __m512i) -> __m512i { _mm512_ror_epi64::<RIGHT>(a) }
        fn shift[RIGHT: u32](a: __m512i) -> __m512i { _mm512_srli_epi64::<RIGHT>(a) }
        fn xor[](a: __m512i, b: __m512i, c: __m512i) -> __m512i { _mm512_ternarylogic_epi64::<0x96>(a, b, c) }
        fn choice[](a: __m512i, b: __m512i, c: __m512i) -> __m512i { _mm512_ternarylogic_epi64::<0xca>(a, b, c) }
        fn majority[](a: __m512i, b: __m512i, c: __m512i) -> __m512i { _mm512_ternarylogic_epi64::<0xe8>(a, b, c) }
        fn big_endian[](words: [[u8; 8]; 8]) -> __m512i {
            let [a, b, c, d, e, f, g, h] = words.map(i64::from_ne_bytes);
            let order = _mm512_set4_epi32(0x0809_0a0b, 0x0c0d_0e0f, 0x0001_0203, 0x0405_0607);
            _mm512_shuffle_epi8(_mm512_set_epi64(h, g, f, e, d, c, b, a), order)
        }
        fn split[](a: __m512i) -> [u64; 8] {
            // SAFETY: both are 64 bytes of which any will do.
            #[allow(unsafe_code)]
            unsafe { std::mem::transmute(a) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #[allow(clippy::wildcard_imports)] // as above
    use std::arch::x86_64::*;

    use super::{Digest, INITIAL, KEYS, WORDS};

    hash_in_lanes!("avx2", __m256i, 4);

    instructions! { "avx2";
        fn splat[](word: u64) -> __m256i { _mm256_set1_epi64x(word.cast_signed()) }
        fn add[](a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi64(a, b) }
        fn rotate[RIGHT: i32, LEFT: i32](a: __m256i) -> __m256i {
            _mm256_or_si256(_mm256_srli_epi64::<RIGHT>(a), _mm256_slli_epi64::<LEFT>(a))
        }
        fn shift[RIGHT: i32](a: __m256i) -> __m256i { _mm256_srli_epi64::<RIGHT>(a) }
        fn xor[](a: __m256i, b: __m256i, c: __m256i) -> __m256i { _mm256_xor_si256(_mm256_xor_si256(a, b), c) }
        fn choice[](a: __m256i, b: __m256i, c: __m256i) -> __m256i {
            _mm256_xor_si256(c, _mm256_and_si256(a, _mm256_xor_si256(b, c)))
        }
        fn majority[](a: __m256i, b: __m256i, c: __m256i) -> __m256i {
            _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)))
        }
        fn big_endian[](words: [[u8; 8]; 4]) -> __m256i {
            let [a, b, c, d] = words.map(i64::from_ne_bytes);
            let order = _mm256_set_epi64x(0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607);
            _mm256_shuffle_epi8(_mm256_set_epi64x(d, c, b, a), order)
        }
        fn split[](a: __m256i) -> [u64; 4] {
            // SAFETY: both are 32 bytes of which any will do.
            #[allow(unsafe_code)]
            unsafe { std::mem::transmute(a) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
/// The first bits of the fractions of the first primes' square roots.
const INITIAL: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The first bits of the fractions of the first primes' cube roots, for sixteen
/// rounds at a time.
#[cfg(target_arch = "x86_64")]
const KEYS: [[u64; WORDS]; 5] = [
    [
        0x428a_2f98_d728_ae22,
        0x7137_4491_23ef_65cd,
        0xb5c0_fbcf_ec4d_3b2f,
        0xe9b5_dba5_8189_dbbc,
        0x3956_c25b_f348_b538,
        0x59f1_11f1_b605_d019,
        0x923f_82a4_af19_4f9b,
        0xab1c_5ed5_da6d_8118,
        0xd807_aa98_a303_0242,
        0x1283_5b01_4570_6fbe,
        0x2431_85be_4ee4_b28c,
        0x550c_7dc3_d5ff_b4e2,
        0x72be_5d74_f27b_896f,
        0x80de_b1fe_3b16_96b1,
        0x9bdc_06a7_25c7_1235,
        0xc19b_f174_cf69_2694,
    ],
    [
        0xe49b_69c1_9ef1_4ad2,
        0xefbe_4786_384f_25e3,
        0x0fc1_9dc6_8b8c_d5b5,
        0x240c_a1cc_77ac_9c65,
        0x2de9_2c6f_592b_0275,
        0x4a74_84aa_6ea6_e483,
        0x5cb0_a9dc_bd41_fbd4,
        0x76f9_88da_8311_53b5,
        0x983e_5152_ee66_dfab,
        0xa831_c66d_2db4_3210,
        0xb003_27c8_98fb_213f,
        0xbf59_7fc7_beef_0ee4,
        0xc6e0_0bf3_3da8_8fc2,
        0xd5a7_9147_930a_a725,
        0x06ca_6351_e003_826f,
        0x1429_2967_0a0e_6e70,
    ],
    [
        0x27b7_0a85_46d2_2ffc,
        0x2e1b_2138_5c26_c926,
        0x4d2c_6dfc_5ac4_2aed,
        0x5338_0d13_9d95_b3df,
        0x650a_7354_8baf_63de,
        0x766a_0abb_3c77_b2a8,
        0x81c2_c92e_47ed_aee6,
        0x9272_2c85_1482_353b,
        0xa2bf_e8a1_4cf1_0364,
        0xa81a_664b_bc42_3001,
        0xc24b_8b70_d0f8_9791,
        0xc76c_51a3_0654_be30,
        0xd192_e819_d6ef_5218,
        0xd699_0624_5565_a910,
        0xf40e_3585_5771_202a,
        0x106a_a070_32bb_d1b8,
    ],
    [
        0x19a4_c116_b8d2_d0c8,
        0x1e37_6c08_5141_ab53,
        0x2748_774c_df8e_eb99,
        0x34b0_bcb5_e19b_48a8,
        0x391c_0cb3_c5c9_5a63,
        0x4ed8_aa4a_e341_8acb,
        0x5b9c_ca4f_7763_e373,
        0x682e_6ff3_d6b2_b8a3,
        0x748f_82ee_5def_b2fc,
        0x78a5_636f_4317_2f60,
        0x84c8_7814_a1f0_ab72,
        0x8cc7_0208_1a64_39ec,
        0x90be_fffa_2363_1e28,
        0xa450_6ceb_de82_bde9,
        0xbef9_a3f7_b2c6_7915,
        0xc671_78f2_e372_532b,
    ],
    [
        0xca27_3ece_ea26_619c,
        0xd186_b8c7_21c0_c207,
        0xeada_7dd6_cde0_eb1e,
        0xf57d_4f7f_ee6e_d178,
        0x06f0_67aa_7217_6fba,
        0x0a63_7dc5_a2c8_98a6,
        0x113f_9804_bef9_0dae,
        0x1b71_0b35_131c_471b,
        0x28db_77f5_2304_7d84,
        0x32ca_ab7b_40c7_2493,
        0x3c9e_be0a_15c9_bebc,
        0x431d_67c4_9c10_0d4c,
        0x4cc5_d4be_cb3e_42b6,
        0x597f_299c_fc65_7e2a,
        0x5fcb_6fab_3ad6_faec,
        0x6c44_198c_4a47_5817,
    ],
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_is_what_the_library_says(
            messages in 0..20usize,
            blocks in 1..40usize,
            seed: u64,
        ) {
            let (mut word, length) = (seed | 1, BLOCK * blocks);
            let next = || {
                word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (word >> 33) as u8
            };
            let bytes: Vec<u8> = std::iter::repeat_with(next).take(length * messages).collect();
            let expected: Vec<Digest> = bytes.chunks(length).map(alone).collect();
            let mut found = Vec::new();
            sha512_of_each(&bytes, length, &mut found);
            prop_assert_eq!(&found, &expected);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                found.clear();
                // SAFETY: the processor has the instructions, which was just asked.
                #[allow(unsafe_code)]
                in_groups(&bytes, length, &mut found, |group| unsafe { avx2::hash(group) });
                prop_assert_eq!(&found, &expected);
            }
        }
    }

    #[test]
    #[should_panic(expected = "300 bytes of messages of 128")]
    fn lengths_must_be_alike() {
        sha512_of_each(&[0; 300], 128, &mut Vec::new());
    }
}
