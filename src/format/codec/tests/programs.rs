//! Understanding with the command-line programs, in both directions.
//! A program that is not there is left out, and said so.

use std::io::ErrorKind as IoErrorKind;
use std::process::{Command, Stdio};

use super::*;

/// Runs `command` on `input`; `None` where the program is missing.
fn run(command: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let child = Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Err(error) if error.kind() == IoErrorKind::NotFound => {
            println!("{program} is not installed; left out");
            return None;
        }
        child => child.expect("a process"),
    };
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("an exit")
    });
    assert!(output.status.success(), "{command}: {}", output.status);
    Some(output.stdout)
}

#[test]
fn what_programs_compress_is_read() {
    let data = text(3_000_000, 21);
    for (codec, command) in [
        (Codec::Gzip, "gzip -9"),
        (Codec::Gzip, "pigz -p 4"),
        (Codec::Gzip, "pigz -p 4 -i"),
        (Codec::Xz, "xz -1"),
        (Codec::Xz, "xz -1 -T4 --block-size=500000"),
        (Codec::Xz, "xz -1 --check=sha256 --x86 --lzma2=preset=1"),
        (Codec::Xz, "xz -1 --check=none"),
        (Codec::Lzma, "xz --format=lzma -1"),
        (Codec::Bzip2, "bzip2 -1"),
        (Codec::Bzip2, "bzip2 -9"),
        (Codec::Bzip2, "lbzip2 -9"),
        (Codec::Zstd, "zstd -3"),
        (Codec::Zstd, "zstd -3 --no-check --long=27"),
        (Codec::Zstd, "pzstd -p 4"),
        (Codec::Lz4, "lz4 -1"),
        (Codec::Lz4, "lz4 -9 -BD -B4 -BX"),
        (Codec::Lz4, "lz4 -1 -BD -B7 --no-frame-crc"),
        (Codec::Lz4, "lz4 -1 -B5 -BX"),
        (Codec::Lz4, "lz4 -l -c"),
    ] {
        if !codec.is_enabled() {
            continue;
        }
        for data in [&data[..], b"short", b""] {
            let Some(packed) = run(command, data) else { break };
            assert_eq!(Codec::detect(&packed), Some(codec), "{command}");
            for threads in [1, 3] {
                assert!(unpack(codec, &packed, threads).expect(command) == data, "{command}");
            }
        }
    }
}

#[test]
fn our_output_is_decoded_by_every_codecs_program() {
    let mut data = text(3_000_000, 22);
    data.resize(5_000_000, 7);
    for codec in enabled() {
        let command = match codec {
            Codec::Gzip => "gzip -dc",
            Codec::Bzip2 => "bzip2 -dc",
            Codec::Xz => "xz --format=xz -dc",
            Codec::Lzma => "xz --format=lzma -dc",
            Codec::Zstd => "zstd -dc",
            _ => "lz4 -dc",
        };
        for data in [&data[..], &data[..128 << 10], b"short", b""] {
            let found = run(command, &pack(codec, 2, data, 100_000));
            assert!(found.is_none_or(|found| found == data), "{codec}");
        }
    }
}
