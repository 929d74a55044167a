#include "core/verdict/bounded_json.hpp"

#include <nlohmann/json.hpp>

#include "core/base/json_text.hpp"
#include "core/base/text.hpp"

namespace bv {
namespace {

void bound_texts(nlohmann::ordered_json& json) {
  constexpr std::size_t kTextMax = 4096;
  if (json.is_string() && json.get_ref<const std::string&>().size() > kTextMax) {
    json = bounded(json.get_ref<const std::string&>(), kTextMax);
  } else if (json.is_structured()) {
    for (nlohmann::ordered_json& item : json) {
      bound_texts(item);
    }
  }
}

}  // namespace

std::string dump_bounded(nlohmann::ordered_json json, int indent) {
  bound_texts(json);
  return json_text(json, indent);
}

}  // namespace bv
