#include "oracles/forward/module.hpp"

const void* bv_forward_entry() {
  namespace forward = bv::oracle::forward;
  static constexpr forward::Module kModule{forward::kAbi,
                                           {&forward::read_facts, &forward::hf_forward,
                                            &forward::megatron_forward, &forward::probe_inputs}};
  return &kModule;
}
