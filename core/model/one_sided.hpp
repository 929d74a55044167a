#pragma once
// What one side alone has: HF tensors that Megatron has no parameter for, and parameters that HF
// has no tensor for. The family says which and why; here they become faults of the names.

#include "core/model/resolve.hpp"

namespace bv::model {

/// Adds to model.faults, a fault for each reason, what the rows of `section` come to: tensors that
/// are there, tensors that the config asks for and that are not, parameters without a source.
/// Tensors that are there are explained in `ledger`. Errors: those of BoundName.
[[nodiscard]] Status add_one_sided_faults(const family::Section& section, std::int64_t count,
                                          const ResolveOptions& options, Ledger& ledger,
                                          Model& model);

/// Does a row of one side say why the parameter has no source, where it has none?
[[nodiscard]] bool is_told_one_sided(const family::Section& section, const Mapping& mapping,
                                     const Model& model);

}  // namespace bv::model
