#include "core/verdict/counts_check.hpp"

#include <fmt/format.h>

#include <initializer_list>
#include <utility>

namespace bv {

void check_counts(Fields& fields, const Json& root, const Run& run) {
  const Json* result = Fields::find(root, "result");
  const Json* counts = result == nullptr || !result->is_object()
                           ? nullptr
                           : fields.object(*result, "counts", "result.");
  if (counts == nullptr) {
    return;  // a fault that is told
  }
  const Counts now = count(run);
  for (const auto& [name, found] : std::initializer_list<std::pair<const char*, std::int64_t>>{
           {"proved", now.proved},
           {"held", now.held},
           {"refuted", now.refuted},
           {"inconclusive", now.inconclusive},
           {"unsupported", now.unsupported},
           {"waived", now.waived},
           {"broken", now.broken}}) {
    const Json* stated = Fields::find(*counts, name);
    if ((stated == nullptr || *stated != found) && fields.ok()) {
      fields.refuse(fmt::format("result.counts.{}", name), stated,
                    fmt::format("{}, as many as the file has", found));
    }
  }
}

}  // namespace bv
