//! Any bytes as a script of events, times and ends of tasks: the engine does what its naive model does.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    engine::script::run_script(script);
});
