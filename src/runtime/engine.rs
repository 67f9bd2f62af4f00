//! The wasmtime engines of a node, and the settings that compiled code depends on.
//!
//! There are two, and a component runs in the one that [`Concurrency`] says. The child process that compiles and the node
//! that runs take their settings from [`config`], so that what one writes the other can map. Pool sizes do not matter to
//! compiled code and are added by the node alone.

use std::hash::{DefaultHasher, Hasher};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails, component::Component,
};

/// How large the engine's pools are.
#[derive(Debug, Clone, Copy)]
pub struct EngineSettings {
    /// Instances at one moment, busy and idle together. Memory is reserved as address space, not used, until an instance needs it.
    pub slots: u32,
    /// How many bytes of an instance's memory are reset in place instead of being unmapped. A larger value serves
    /// functions with large heaps (JavaScript, Python) and keeps more memory resident.
    pub keep_resident: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            slots: 2000,
            keep_resident: 8 << 20,
        }
    }
}

/// Core instances of a component instance: its own modules and the adapters between them.
pub(super) const CORE_INSTANCES_PER_COMPONENT: u32 = 40;
/// Linear memories of a component instance. Most have one; a composed component has one for each part.
pub(super) const MEMORIES_PER_COMPONENT: u32 = 8;
/// Tables of a component instance.
pub(super) const TABLES_PER_COMPONENT: u32 = 16;

/// Whether a component uses the component model's own concurrency: async functions, streams and futures, which WASI 0.3
/// is made of.
///
/// An engine that has it makes a task of every call between guest and host, wanted or not: a hello of WASI 0.2 costs the
/// node a quarter more. So a component runs without it unless it needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concurrency {
    Without,
    With,
}

impl Concurrency {
    pub(super) const ALL: [Self; 2] = [Self::Without, Self::With];

    /// Its name beside an artifact, and in what a compiling child says.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::With => "with",
        }
    }

    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|concurrency| concurrency.name().as_bytes() == name)
    }

    /// Whether a component that compiles without concurrency still needs it, for an interface of WASI 0.3.
    fn is_needed_by(component: &Component) -> bool {
        let engine = component.engine();
        let types = component.component_type();
        let mut imports = types.imports(engine).map(|(name, _)| name);
        let mut exports = types.exports(engine).map(|(name, _)| name);
        imports.any(is_wasi_03) || exports.any(is_wasi_03)
    }
}

fn is_wasi_03(name: &str) -> bool {
    name.starts_with("wasi:") && name.contains("@0.3.")
}

/// Something for each engine.
#[derive(Debug, Clone)]
pub(super) struct PerEngine<T> {
    without: T,
    with: T,
}

impl<T> PerEngine<T> {
    pub(super) fn new<E>(make: impl Fn(Concurrency) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self {
            without: make(Concurrency::Without)?,
            with: make(Concurrency::With)?,
        })
    }

    pub(super) fn get(&self, concurrency: Concurrency) -> &T {
        match concurrency {
            Concurrency::Without => &self.without,
            Concurrency::With => &self.with,
        }
    }
}

/// Compiles a component for the engine that it needs.
///
/// # Errors
///
/// It is no component, or no engine can run it.
pub(super) fn compile(bytes: &[u8]) -> wasmtime::Result<(Component, Concurrency)> {
    let without = Engine::new(&config(Concurrency::Without))?;
    match Component::from_binary(&without, bytes) {
        Ok(component) if !Concurrency::is_needed_by(&component) => {
            Ok((component, Concurrency::Without))
        }
        // What is wrong with it whatever the engine is said by the one that takes more.
        _ => {
            let with = Engine::new(&config(Concurrency::With))?;
            Ok((Component::from_binary(&with, bytes)?, Concurrency::With))
        }
    }
}

/// The settings that compiled code depends on.
fn config(concurrency: Concurrency) -> Config {
    let concurrent = concurrency == Concurrency::With;
    let mut config = Config::new();
    config
        // Fuel meters and pre-empts. Epochs beside it would nearly double the cost of calls.
        .consume_fuel(true)
        .concurrency_support(concurrent)
        .wasm_component_model_async(concurrent)
        // wasi:http 0.3 needs nothing of the garbage collector, and every slot would pay for a heap.
        .wasm_gc(false)
        .memory_init_cow(true)
        // A JavaScript engine's image is larger than the default of 16 MiB; above it copy-on-write is lost.
        .memory_guaranteed_dense_image_size(64 << 20)
        // Names are in the trap's backtrace; files and lines would cost tens of milliseconds a trap in a debug build.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// An engine of a node: compiled code runs in slots that are reset and used again.
pub(super) fn pooling(
    settings: EngineSettings,
    concurrency: Concurrency,
) -> wasmtime::Result<Engine> {
    let slots = settings.slots;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(10))
        .total_memories(slots.saturating_mul(2))
        .total_tables(slots.saturating_mul(4))
        .total_stacks(slots.saturating_mul(2))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .table_elements(100_000)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        // Which pages are dirty is asked of the kernel (Linux 6.7 and later): a hello's reset costs 10 µs less.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(settings.keep_resident)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10)
        .decommit_batch_size(16);
    let mut config = config(concurrency);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// What compiled code must agree with to be run by these engines, as a name for a folder.
pub(super) fn compatibility(engines: &PerEngine<Engine>) -> String {
    let mut hasher = DefaultHasher::new();
    for concurrency in Concurrency::ALL {
        let engine = engines.get(concurrency);
        std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(slots: u32, keep_resident: usize) -> PerEngine<Engine> {
        let settings = EngineSettings {
            slots,
            keep_resident,
        };
        PerEngine::new(|concurrency| pooling(settings, concurrency)).unwrap()
    }

    #[test]
    fn compiled_code_does_not_depend_on_the_size_of_the_pool() {
        let compiler = PerEngine::new(|concurrency| Engine::new(&config(concurrency))).unwrap();
        let small = engines(4, 0);
        let large = engines(50, 1 << 20);
        assert_eq!(compatibility(&compiler), compatibility(&small));
        assert_eq!(compatibility(&small), compatibility(&large));
    }

    #[test]
    fn only_who_needs_concurrency_pays_for_it() {
        let concurrency = |text: &str| compile(&wat::parse_str(text).unwrap()).unwrap().1;
        assert_eq!(concurrency("(component)"), Concurrency::Without);
        let import = |name| format!("(component (import \"{name}\" (instance)))");
        assert_eq!(
            concurrency(&import("wasi:http/types@0.2.3")),
            Concurrency::Without
        );
        assert_eq!(
            concurrency(&import("wasi:clocks/types@0.3.0")),
            Concurrency::With,
            "there is nothing asynchronous in it, but 0.3 is only linked there"
        );
        assert_eq!(
            concurrency("(component (type (future u32)))"),
            Concurrency::With,
            "it does not compile without"
        );
    }
}
