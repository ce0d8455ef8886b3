//! An archive that the kernel unpacks into its first file system: cpio, in the "new ASCII" format.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// The name of the entry that ends an archive.
const END: &str = "TRAILER!!!";

/// An archive that is being written.
pub(super) struct Initramfs {
    file: BufWriter<File>,
    entries: u32,
}

impl Initramfs {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { file: BufWriter::new(File::create(path)?), entries: 0 })
    }

    /// Adds an empty folder. A folder has to come before its content.
    pub(super) fn folder(&mut self, name: &str) -> anyhow::Result<()> {
        self.entry(name, FOLDER, &[])
    }

    /// Adds a file that everyone may read and run.
    pub(super) fn program(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        self.entry(name, PROGRAM, content)
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.entry(END, 0, &[])?;
        Ok(self.file.flush()?)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.entries += 1;
        let (size, name_size) = (u32::try_from(content.len())?, u32::try_from(name.len() + 1)?);
        // Inode, mode, owner, group, links, time, size, device and represented device (two fields
        // each), the size of the name, no checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let fields = fields.map(|field| format!("{field:08x}")).concat();
        let head = format!("070701{fields}{name}\0");
        self.padded(head.as_bytes())?;
        self.padded(content)
    }

    /// Writes bytes, padded so that the next ones begin at a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        Ok(self.file.write_all(&[0; 3][..padding])?)
    }
}
