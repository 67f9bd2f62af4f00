//! `wasi:config/store`, in both spellings: what the function's configuration says.

use std::collections::BTreeMap;

use wasmtime::component::{HasData, Linker};

use crate::runtime::bindings::wasi::{
    config0_2_0_draft_2024_09_27::store as draft, config0_2_0_rc_1::store,
};

/// What `wasi:config` needs of a store's state.
pub(crate) struct ConfigView<'a> {
    /// The function's values.
    pub(crate) values: &'a BTreeMap<String, String>,
}

/// Adds both spellings to a linker.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> ConfigView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasConfig>(linker, get)?;
    draft::add_to_linker::<T, HasConfig>(linker, get)
}

struct HasConfig;

impl HasData for HasConfig {
    type Data<'a> = ConfigView<'a>;
}

impl ConfigView<'_> {
    fn value(&self, key: &str) -> Option<String> {
        self.values.get(key).cloned()
    }

    fn all(&self) -> Vec<(String, String)> {
        self.values.clone().into_iter().collect()
    }
}

impl store::Host for ConfigView<'_> {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        Ok(Ok(self.value(&key)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        Ok(Ok(self.all()))
    }
}

impl draft::Host for ConfigView<'_> {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, draft::Error>> {
        Ok(Ok(self.value(&key)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, draft::Error>> {
        Ok(Ok(self.all()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_answer_what_is_configured() {
        let values = BTreeMap::from([("colour".to_owned(), "blue".to_owned())]);
        let mut view = ConfigView { values: &values };
        let blue = Some("blue".to_owned());
        assert_eq!(
            store::Host::get(&mut view, "colour".to_owned())
                .unwrap()
                .unwrap(),
            blue
        );
        assert_eq!(
            draft::Host::get(&mut view, "colour".to_owned())
                .unwrap()
                .unwrap(),
            blue
        );
        assert_eq!(
            store::Host::get(&mut view, "size".to_owned())
                .unwrap()
                .unwrap(),
            None
        );
        let all = vec![("colour".to_owned(), "blue".to_owned())];
        assert_eq!(store::Host::get_all(&mut view).unwrap().unwrap(), all);
        assert_eq!(draft::Host::get_all(&mut view).unwrap().unwrap(), all);
    }
}
