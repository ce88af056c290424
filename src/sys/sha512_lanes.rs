//! SHA-512 of several messages at once, one in each lane of vector registers.
//!
//! A message's own rounds wait for each other, those of others do not: with
//! AVX-512 eight take little longer than one (FIPS 180-4, 6.4). What is hashed
//! so are blocks of files, whose digests others compute again.

/// How many messages are hashed at once.
pub const LANES: usize = 8;

/// Whether this processor is faster so than with one message after the other.
pub fn has_lanes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The digests of messages that are all as long as the first, a multiple of 128
/// bytes.
///
/// # Panics
/// They are not.
pub fn sha512_of_each(messages: &[&[u8]; LANES]) -> [[u8; 64]; LANES] {
    let length = messages[0].len();
    assert!(
        length.is_multiple_of(BLOCK) && messages.iter().all(|one| one.len() == length),
        "messages of {length} bytes"
    );
    #[cfg(target_arch = "x86_64")]
    if has_lanes() {
        // SAFETY: the processor has the instructions, which was just asked.
        #[allow(unsafe_code)]
        return unsafe { with_avx512(messages) };
    }
    hash(messages)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn with_avx512(messages: &[&[u8]; LANES]) -> [[u8; 64]; LANES] {
    hash(messages)
}

/// Bytes that one compression takes in.
const BLOCK: usize = 128;

/// The same word of each message.
type Words = [u64; LANES];

#[inline(always)]
fn each(word: impl Fn(usize) -> u64) -> Words {
    let mut words = [0; LANES];
    for (lane, place) in words.iter_mut().enumerate() {
        *place = word(lane);
    }
    words
}

#[inline(always)]
fn hash(messages: &[&[u8]; LANES]) -> [[u8; 64]; LANES] {
    let mut state = INITIAL.map(|word| [word; LANES]);
    for at in (0..messages[0].len()).step_by(BLOCK) {
        let mut block = [[0; LANES]; 16];
        for (word, place) in block.iter_mut().enumerate() {
            let from = at + 8 * word;
            *place = each(|lane| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&messages[lane][from..from + 8]);
                u64::from_be_bytes(bytes)
            });
        }
        compress(&mut state, block);
    }
    let mut last = [[0; LANES]; 16];
    last[0] = [1 << 63; LANES];
    last[15] = [8 * messages[0].len() as u64; LANES];
    compress(&mut state, last);
    let mut digests = [[0; 64]; LANES];
    for (lane, digest) in digests.iter_mut().enumerate() {
        for (place, word) in digest.chunks_exact_mut(8).zip(&state) {
            place.copy_from_slice(&word[lane].to_be_bytes());
        }
    }
    digests
}

#[inline(always)]
fn compress(state: &mut [Words; 8], mut block: [Words; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for sixteen in 0..5 {
        for word in 0..16 {
            if sixteen > 0 {
                let (next, near) = (block[(word + 1) % 16], block[(word + 14) % 16]);
                let (old, far) = (block[word], block[(word + 9) % 16]);
                block[word] = each(|lane| {
                    let (x, y) = (next[lane], near[lane]);
                    let low = x.rotate_right(1) ^ x.rotate_right(8) ^ (x >> 7);
                    let high = y.rotate_right(19) ^ y.rotate_right(61) ^ (y >> 6);
                    old[lane]
                        .wrapping_add(low)
                        .wrapping_add(far[lane])
                        .wrapping_add(high)
                });
            }
            let (key, message) = (KEYS[16 * sixteen + word], block[word]);
            let first = each(|lane| {
                let e = e[lane];
                let sum = e.rotate_right(14) ^ e.rotate_right(18) ^ e.rotate_right(41);
                let choice = (e & f[lane]) ^ (!e & g[lane]);
                h[lane]
                    .wrapping_add(sum)
                    .wrapping_add(choice)
                    .wrapping_add(key)
                    .wrapping_add(message[lane])
            });
            let second = each(|lane| {
                let (a, b, c) = (a[lane], b[lane], c[lane]);
                let sum = a.rotate_right(28) ^ a.rotate_right(34) ^ a.rotate_right(39);
                sum.wrapping_add((a & b) ^ (a & c) ^ (b & c))
            });
            h = g;
            g = f;
            f = e;
            e = each(|lane| d[lane].wrapping_add(first[lane]));
            d = c;
            c = b;
            b = a;
            a = each(|lane| first[lane].wrapping_add(second[lane]));
        }
    }
    for (state, word) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *state = each(|lane| state[lane].wrapping_add(word[lane]));
    }
}

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

/// The first bits of the fractions of the first primes' cube roots.
const KEYS: [u64; 80] = [
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
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha512};

    use super::*;

    proptest! {
        #[test]
        fn each_is_what_the_library_says(blocks in 0..40usize, seed: u64) {
            let mut word = seed | 1;
            let bytes: Vec<Vec<u8>> = (0..LANES)
                .map(|_| {
                    let next = || {
                        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                        (word >> 33) as u8
                    };
                    std::iter::repeat_with(next).take(BLOCK * blocks).collect()
                })
                .collect();
            let messages = std::array::from_fn(|lane| bytes[lane].as_slice());
            let expected = bytes.iter().map(|bytes| Sha512::digest(bytes).to_vec());
            let expected: Vec<Vec<u8>> = expected.collect();
            for found in [sha512_of_each(&messages), hash(&messages)] {
                prop_assert_eq!(&found.map(|digest| digest.to_vec())[..], &expected[..]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "messages of 128 bytes")]
    fn lengths_must_be_alike() {
        let mut messages = [&[0; 128][..]; LANES];
        messages[5] = &[0; 256];
        sha512_of_each(&messages);
    }
}
