#include "oracles/forward/forward.hpp"
#include "oracles/oracle.hpp"

const void* bv_oracle_entry() {
  namespace forward = bv::oracle::forward;
  static constexpr forward::Functions kForward{&forward::read_facts, &forward::hf_forward,
                                               &forward::megatron_forward, &forward::probe_inputs};
  static constexpr bv::oracle::Entry kEntry{bv::oracle::kAbiVersion, &bv::oracle::wanted_shard,
                                            &bv::oracle::why_unanswered, &bv::oracle::wanted_value,
                                            &kForward};
  return &kEntry;
}
