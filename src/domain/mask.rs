//! stub
use std::borrow::Cow;
/// stub
#[derive(Debug)]
pub struct Masker;
impl Masker {
    /// stub
    pub fn new<'a>(_: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self
    }
    /// stub
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        text.into()
    }
}
