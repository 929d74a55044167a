#pragma once
// The adapter that all processes of a world read.

#include "core/base/result.hpp"
#include "core/comm/link.hpp"
#include "core/lora/adapter.hpp"
#include "core/lora/megatron_adapter.hpp"

namespace bv::cli {

/// Before anything is said of the adapter: what a process with another one found would be told as
/// if it were of this one. All call it; nothing to do without a world. Errors: RankDiverged naming
/// the rank that has another one than rank 0.
[[nodiscard]] Status agree_on_adapter(comm::Link* world, const lora::Adapter& adapter);
/// The same of the files of Megatron's ranks and what is said beside them. Errors: also those of
/// reading adapter.json.
[[nodiscard]] Status agree_on_adapter(comm::Link* world, const lora::MegatronAdapter& adapter);

}  // namespace bv::cli
