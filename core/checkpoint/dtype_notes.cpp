#include "core/checkpoint/dtype_notes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/text.hpp"
#include "core/kinds/values.hpp"
#include "core/quantised/quantised.hpp"

namespace bv::checkpoint {
namespace {

constexpr std::size_t kShownNames = 3;

struct Stated {
  DType dtype = DType::BF16;
  std::string text;  // "bfloat16"
};

std::optional<Stated> stated_in(const nlohmann::json& level) {
  constexpr std::string_view kTorch = "torch.";
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto found = level.find(key);
    if (found == level.end() || !found->is_string()) {
      continue;
    }
    std::string text = found->get<std::string>();
    text.erase(0, text.starts_with(kTorch) ? kTorch.size() : 0);
    for (const auto& [name, dtype] :
         {std::pair("bfloat16", DType::BF16), std::pair("float16", DType::F16),
          std::pair("float32", DType::F32), std::pair("float64", DType::F64)}) {
      if (text == name) {
        return Stated{dtype, text};
      }
    }
  }
  return std::nullopt;
}

/// At the top, else in the text model's object.
std::optional<Stated> stated_dtype(const nlohmann::json& config) {
  if (auto top = stated_in(config)) {
    return top;
  }
  const auto text = config.find("text_config");
  return text != config.end() && text->is_object() ? stated_in(*text) : std::nullopt;
}

/// "model.layers.3.mlp.down_proj.weight": with stars for its numbers.
std::string pattern_of(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c < '0' || c > '9') {
      out += c;
    } else if (out.empty() || out.back() != '*') {
      out += '*';
    }
  }
  return out;
}

/// Names of one dtype by pattern; a pattern with one name is that name.
class Names {
 public:
  void add(const std::string& name) {
    ++count_;
    const auto [entry, fresh] = patterns_.try_emplace(pattern_of(name));
    entry->second.first = fresh ? name : entry->second.first;
    ++entry->second.second;
  }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::string text() const {
    std::vector<std::string> parts;
    for (const auto& [pattern, names] : patterns_) {
      if (parts.size() == kShownNames) {
        parts.push_back(fmt::format("{} more", patterns_.size() - kShownNames));
        break;
      }
      parts.push_back(names.second == 1
                          ? readable(names.first)
                          : fmt::format("{} ({})", readable(pattern), thousands(names.second)));
    }
    return join(parts, ", ");
  }

 private:
  std::int64_t count_ = 0;
  std::map<std::string, std::pair<std::string, std::int64_t>> patterns_;
};

}  // namespace

std::vector<std::string> dtype_notes(const nlohmann::json& config, const Headers& headers,
                                     const std::vector<Dequantised>& dequantised) {
  const auto is_stored = [&](const std::string& name) {
    return !std::ranges::binary_search(
        dequantised, name, {},
        [](const auto& one) -> const std::string& { return one.weight.name; });
  };
  std::map<DType, std::int64_t> counts;
  std::int64_t known = 0;
  bool odd = false;
  for (const auto& [name, spec] : headers) {
    if (!is_stored(name)) {
      continue;
    }
    odd = odd || !kinds::is_computable(spec.dtype);
    counts[spec.dtype] += kinds::is_computable(spec.dtype) ? 1 : 0;
    ++known;
  }
  std::vector<std::string> out;
  if (const std::string says = quantised::stated(config); !says.empty() && !odd && known > 0) {
    out.push_back(fmt::format(
        "no tensor is quantised, but there is {}: probably left from before the weights were "
        "dequantised",
        says));
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end() || most->second == 0) {
    return out;
  }
  const auto stated = stated_dtype(config);
  const DType usual = stated ? stated->dtype : most->first;
  std::map<DType, Names> others;
  for (const auto& [name, spec] : headers) {
    if (spec.dtype != usual && is_stored(name) && kinds::is_computable(spec.dtype)) {
      others[spec.dtype].add(name);
    }
  }
  for (const auto& [dtype, names] : others) {
    out.push_back(fmt::format(
        "{} of {} {} {}, {}: {}", thousands(names.count()), counted(known, "tensor"),
        names.count() == 1 ? "is" : "are", bv::name(dtype),
        stated ? "config.json says " + stated->text : fmt::format("most are {}", bv::name(usual)),
        names.text()));
  }
  return out;
}

}  // namespace bv::checkpoint
