#include "oracles/oracle.hpp"

const void* bv_oracle_entry() {
  static constexpr bv::oracle::Entry kEntry{bv::oracle::kAbiVersion, &bv::oracle::wanted_shard,
                                            &bv::oracle::why_unanswered};
  return &kEntry;
}
