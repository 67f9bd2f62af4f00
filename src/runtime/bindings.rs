//! What `bindgen!` makes of `wit`: the imports that are implemented in [`imports`](super::imports), and the exports of
//! event functions and of hooks.
//!
//! wasi:cli, clocks, random, io, filesystem and http are not here: their bindings are wasmtime's.

pub(crate) use event::{EventFunction, EventFunctionPre};
pub(crate) use generated::{wasi, wharf};

mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "wharf:node/imports",
        imports: {
            "wasi:keyvalue": async | trappable,
            "wharf:function/invoke": async | trappable,
            "wharf:function/context.remaining-fuel": store | trappable,
            default: trappable,
        },
        with: {
            "wasi:keyvalue/store@0.2.0-draft.bucket": crate::runtime::imports::key_value::Bucket,
            "wasi:keyvalue/store@0.2.0-draft2.bucket": crate::runtime::imports::key_value::Bucket,
            "wasi:keyvalue/atomics@0.2.0-draft2.cas": crate::runtime::imports::key_value::Cas,
        },
        trappable_error_type: {
            "wasi:keyvalue/store@0.2.0-draft.error" => crate::runtime::imports::key_value::Error,
            "wasi:keyvalue/store@0.2.0-draft2.error" => crate::runtime::imports::key_value::Error,
        },
    });
}

mod event {
    wasmtime::component::bindgen!({
        path: "wit",
        // `wharf:function/event-function` without its imports, which the linker provides and a component may leave out.
        inline: "
            package wharf:bindings;
            world event-function {
                export wharf:function/handler@0.1.0;
            }
        ",
        world: "wharf:bindings/event-function",
        exports: { default: async },
        with: {
            "wharf:function/types": super::generated::wharf::function::types,
        },
    });
}

/// The exports of `wharf:edge`. A component has one or more of them, so each is looked up by itself.
pub(crate) mod hook {
    wasmtime::component::bindgen!({
        path: "wit",
        inline: "
            package wharf:bindings;
            world hooks {
                export wharf:edge/viewer-request@0.1.0;
                export wharf:edge/origin-request@0.1.0;
                export wharf:edge/origin-response@0.1.0;
                export wharf:edge/viewer-response@0.1.0;
            }
        ",
        world: "wharf:bindings/hooks",
        exports: { default: async },
        // What is handed in is lowered from where it lies.
        ownership: Borrowing { duplicate_if_necessary: false },
    });

    pub(crate) use self::wharf::edge::types as wit;
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeMap, path::Path, sync::Arc};

    use wasmtime::{
        Engine,
        component::{Component, Linker, ResourceTable},
    };
    use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
    use wit_parser::{ManglingAndAbi, Resolve};

    use super::EventFunctionPre;
    use crate::{
        runtime::imports::{config, key_value, logging},
        store::{DataFolder, KeyValue, KeyValueLimits, Sqlite},
    };

    /// A component of a world that is written in terms of `wit`: all the imports and exports, and traps for code.
    pub(in crate::runtime) fn component_of(world: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
        resolve.push_dir(wit).unwrap();
        let text = format!("package test:test; world guest {{ {world} }}");
        let package = resolve.push_str("test.wit", &text).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default()
            .module(&module)
            .unwrap()
            .encode()
            .unwrap()
    }

    fn component(engine: &Engine, world: &str) -> Component {
        Component::from_binary(engine, &component_of(world)).unwrap()
    }

    struct Guest {
        store: Arc<dyn KeyValue>,
        values: BTreeMap<String, String>,
        table: ResourceTable,
        calls: u64,
        log: Silence,
    }

    struct Silence;

    impl logging::LogSink for Silence {
        fn log(&mut self, _: logging::Level, _: &str, _: &str) {}
    }

    #[tokio::test]
    async fn every_spelling_of_every_interface_is_linked() {
        let engine = Engine::default();
        let component = component(
            &engine,
            "include wasi:keyvalue/imports@0.2.0-draft;
             include wasi:keyvalue/imports@0.2.0-draft2;
             include wasi:config/imports@0.2.0-rc.1;
             include wasi:config/imports@0.2.0-draft-2024-09-27;
             include wasi:logging/imports@0.1.0-draft;",
        );
        let mut linker = Linker::<Guest>::new(&engine);
        key_value::add_to_linker(&mut linker, |guest| key_value::KeyValueView {
            store: &guest.store,
            grants: &guest.values,
            table: &mut guest.table,
            calls: &mut guest.calls,
        })
        .unwrap();
        config::add_to_linker(&mut linker, |guest| config::ConfigView {
            values: &guest.values,
        })
        .unwrap();
        logging::add_to_linker(&mut linker, |guest| logging::LoggingView {
            sink: &mut guest.log,
        })
        .unwrap();
        let prepared = linker.instantiate_pre(&component).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let guest = Guest {
            store: Arc::new(Sqlite::open(&data, KeyValueLimits::default()).unwrap()),
            values: BTreeMap::new(),
            table: ResourceTable::new(),
            calls: 0,
            log: Silence,
        };
        let mut store = wasmtime::Store::new(&engine, guest);
        prepared.instantiate_async(&mut store).await.unwrap();
    }

    #[test]
    fn an_event_function_is_told_by_its_export_whatever_it_imports() {
        let engine = Engine::default();
        let linker = Linker::<()>::new(&engine);
        let handler = component(&engine, "export wharf:function/handler@0.1.0;");
        let prepared = linker.instantiate_pre(&handler).unwrap();
        EventFunctionPre::new(prepared).map(drop).unwrap();

        let other = component(&engine, "");
        let prepared = linker.instantiate_pre(&other).unwrap();
        EventFunctionPre::new(prepared).map(drop).unwrap_err();
    }
}
