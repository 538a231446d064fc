//! One case through every door: unpacked, verified and converted, all of which must say the same.
//! Whatever is said, nothing may be left beside the destination, and nothing outside may change.

use std::path::PathBuf;

use lxd_image::format::{
    Codec, Compression, ConvertOptions, Image, ImageSource, UnpackOptions, Unpacked, VerifyOptions,
};
use lxd_image::{Error, ErrorKind, Limits, Monitor};

use super::place::{Place, is_root, tree};

/// A case: the files of an image, and what it is unpacked with.
pub(crate) struct Case {
    files: Vec<Vec<u8>>,
    limits: Limits,
    options: UnpackOptions,
}

/// What was left, and the place where it is.
pub(crate) struct Left {
    pub(crate) place: Place,
    pub(crate) unpacked: Unpacked,
}

impl Left {
    pub(crate) fn tree(&self) -> Vec<String> {
        tree(&self.place.at("box/dest"))
    }
}

pub(crate) fn unified(image: impl Into<Vec<u8>>) -> Case {
    files([image.into()])
}

pub(crate) fn files(files: impl IntoIterator<Item = Vec<u8>>) -> Case {
    Case { files: files.into_iter().collect(), limits: Limits::default(), options: UnpackOptions::new().threads(2) }
}

pub(crate) fn open(paths: &[PathBuf], limits: &Limits) -> Result<Image, Error> {
    Image::open_with(ImageSource::open(&paths[0], paths.get(1).map(PathBuf::as_path))?, limits)
}

impl Case {
    pub(crate) fn limit(mut self, name: &str, value: u64) -> Self {
        self.limits.set(name, value).unwrap();
        self
    }

    pub(crate) fn options(mut self, change: impl FnOnce(UnpackOptions) -> UnpackOptions) -> Self {
        self.options = change(self.options);
        self
    }

    /// Takes the case through all doors.
    #[track_caller]
    pub(crate) fn run(self) -> Result<Left, Error> {
        let place = Place::new();
        place.directory("box");
        place.directory("outside/dir");
        place.write("outside/secret", "secret\n");
        let paths: Vec<PathBuf> =
            self.files.iter().enumerate().map(|(index, bytes)| place.write(&format!("file{index}"), bytes)).collect();
        let outside = tree(&place.at("outside"));

        let unpacked = open(&paths, &self.limits)
            .and_then(|image| image.unpack_unverified(place.at("box/dest"), &self.options, &Monitor::none()));
        let kind = unpacked.as_ref().err().map(Error::kind);
        let names = if kind.is_none() { vec!["dest"] } else { vec![] };
        assert_eq!(place.names("box"), names, "beside the destination, after {unpacked:?}");

        // What only writing can reach has no say in verifying.
        if unpacked.as_ref().err().and_then(Error::limit_name) != Some("output") {
            let verified = open(&paths, &self.limits)
                .and_then(|image| image.verify(&VerifyOptions::new().threads(2), &Monitor::none()));
            let found = match &verified {
                Ok(verified) => verified.findings.first(),
                Err(error) => Some(error),
            };
            assert_eq!(found.map(Error::kind), kind, "verify says {found:?}, unpack {unpacked:?}");
            let options = ConvertOptions::new().threads(2).compression(Compression::new(Codec::None));
            // To a stream, which needs not wait for the disk.
            let converted = open(&paths, &self.limits)
                .and_then(|image| image.convert_to(std::io::sink(), &options, &Monitor::none()));
            let found = converted.as_ref().err();
            assert_eq!(found.map(Error::kind), kind, "convert says {found:?}, unpack {unpacked:?}");
        }
        assert_eq!(tree(&place.at("outside")), outside, "outside of the destination");
        match unpacked {
            Ok(unpacked) => Ok(Left { place, unpacked }),
            Err(error) => Err(error),
        }
    }

    /// Refused with one of these kinds.
    #[track_caller]
    pub(crate) fn refused(self, kinds: &[ErrorKind]) -> Error {
        match self.run() {
            Ok(left) => panic!("accepted, with {:#?}", left.tree()),
            Err(error) => {
                assert!(kinds.contains(&error.kind()), "{error:?} is none of {kinds:?}");
                error
            }
        }
    }

    /// Refused by the limit of this name, and accepted with it raised to `enough`.
    #[track_caller]
    pub(crate) fn over(self, limit: &str, enough: u64) {
        let raised = Self { files: self.files.clone(), limits: self.limits.clone(), options: self.options.clone() };
        let error = self.refused(&[ErrorKind::LimitExceeded]);
        assert_eq!(error.limit_name(), Some(limit), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains(limit)), "{error:?} has no hint");
        if let Err(error) = raised.limit(limit, enough).run() {
            panic!("still refused: {error:?}");
        }
    }

    /// Accepted, with exactly this tree, in any order.
    #[track_caller]
    pub(crate) fn gives(self, lines: &[&str]) -> Left {
        let left = match self.run() {
            Ok(left) => left,
            Err(error) => panic!("refused: {error:?}"),
        };
        if is_root() {
            let (mut found, mut owed) = (left.tree(), lines.to_vec());
            found.sort();
            owed.sort_unstable();
            assert_eq!(found, owed);
        } else {
            println!("the tree is not compared: that takes root");
        }
        left
    }

    /// Accepted, with this in `rootfs/` beside what the base image has.
    #[track_caller]
    pub(crate) fn gives_base_and(self, more: &[&str]) -> Left {
        let mut lines = vec![
            r#"metadata.yaml -644 0:0 now "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Debian\n  release: "12"\n""#,
            "rootfs d755 0:0",
            "rootfs/etc d755 0:0",
            r#"rootfs/etc/hostname -644 0:0 "box\n""#,
        ];
        lines.extend(more);
        self.gives(&lines)
    }
}
