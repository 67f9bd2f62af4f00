//! The one wasmtime engine of a node, and the settings that compiled code depends on.
//!
//! The child process that compiles and the node that runs take their settings from [`config`], so that what one writes
//! the other can map. Pool sizes do not matter to compiled code and are added by the node alone.

use std::hash::{DefaultHasher, Hasher};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
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

/// The settings that compiled code depends on.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        // Fuel meters and pre-empts. Epochs beside it would nearly double the cost of calls.
        .consume_fuel(true)
        .wasm_component_model_async(true)
        // wasi:http 0.3 needs nothing of the garbage collector, and every slot would pay for a heap.
        .wasm_gc(false)
        .memory_init_cow(true)
        // A JavaScript engine's image is larger than the default of 16 MiB; above it copy-on-write is lost.
        .memory_guaranteed_dense_image_size(64 << 20)
        // Names are in the trap's backtrace; files and lines would cost tens of milliseconds a trap in a debug build.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// The engine of a node: compiled code runs in slots that are reset and used again.
pub(super) fn pooling(settings: EngineSettings) -> wasmtime::Result<Engine> {
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
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// What compiled code must agree with to be run by this engine, as a name for a folder.
pub(super) fn compatibility(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_code_does_not_depend_on_the_size_of_the_pool() {
        let compiler = Engine::new(&config()).unwrap();
        let small = pooling(EngineSettings {
            slots: 4,
            keep_resident: 0,
        })
        .unwrap();
        let large = pooling(EngineSettings {
            slots: 50,
            keep_resident: 1 << 20,
        })
        .unwrap();
        assert_eq!(compatibility(&compiler), compatibility(&small));
        assert_eq!(compatibility(&small), compatibility(&large));
    }
}
