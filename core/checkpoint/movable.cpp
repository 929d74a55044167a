#include "core/checkpoint/movable.hpp"

#include <fmt/format.h>

#include "core/io/fault_text.hpp"
#include "core/kinds/values.hpp"

namespace bv::checkpoint {

Status check_movable(const Headers& headers, const model::Mapping& mapping,
                     const plan::DtypePolicy& policy) {
  const auto dtypes = plan::dtypes_of(headers, mapping);
  const DType target = plan::target_dtype(*mapping.rule, dtypes, policy);
  for (std::size_t i = 0; i < dtypes.size(); ++i) {
    const bool casts = dtypes[i] != target || !mapping.rule->value.empty();
    const bool computes = kinds::is_computable(dtypes[i]) && kinds::is_computable(target);
    if (bits(dtypes[i]) % 8 != 0 || bits(dtypes[i]) > 64 || (casts && !computes)) {
      return fail(Code::DtypeUnknown,
                  casts && dtypes[i] != target
                      ? fmt::format("{} is {} and would become {}; this conversion cannot compute "
                                    "with them",
                                    io::in_quotes(mapping.hf[i]), name(dtypes[i]), name(target))
                      : fmt::format("{} is {}; this conversion cannot compute with it",
                                    io::in_quotes(mapping.hf[i]), name(dtypes[i])))
          .pair(std::string(name(dtypes[i])),
                "F16, BF16, F32 or F64, or whole bytes moved as they are")
          .advise("dequantize the checkpoint first");
    }
  }
  return Done{};
}

}  // namespace bv::checkpoint
