//! Profiling: buffers of one contestant on the CPU driver: `buffers (ours|vma|driver) LIVE PAIRS`.

use vkmem_engine::{AllocatorOptions, DeviceMemory};
use vkmem_peers::cases::buffers::{Buffers, Churn, DriverAlone, Ours, Vma};
use vkmem_peers::driver::{ash_tables, open_cpu_driver, open_vma};
use vkmem_vulkan::{DeviceAllocator, Driver};

fn run<B: Buffers>(mut churn: Churn<B>, pairs: usize) {
    let plan = churn.plan(pairs);
    churn.run(&plan);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments[at].parse::<u64>().expect("a number");
    let (live, pairs) = (number(2) as usize, number(3) as usize);
    let device = open_cpu_driver().expect("a CPU driver");
    let handles = device.handles();
    match arguments[1].as_str() {
        "ours" => {
            let ours = DeviceAllocator::new(device.clone(), &AllocatorOptions::default());
            let ours = ours.expect("the device is one");
            run(Churn::new(Ours(&ours), live, 31), pairs);
        }
        "vma" => {
            // SAFETY: the device outlives it.
            let vma = unsafe { open_vma(&handles, device.info().api_version) }.expect("VMA");
            run(Churn::new(Vma(&vma), live, 31), pairs);
        }
        _ => {
            // SAFETY: the device outlives them.
            let (_, table) = unsafe { ash_tables(&handles) }.expect("the loader");
            run(Churn::new(DriverAlone::new(table), live, 31), pairs);
        }
    }
}
