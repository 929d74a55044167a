#include "ci/cli/session/diff_configs.hpp"

#include <fmt/format.h>

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/text.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/io/entry.hpp"
#include "core/io/writer.hpp"
#include "core/model/model.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

using Json = nlohmann::json;

constexpr std::size_t kShown = 6;
/// What a program that saves a model writes of itself.
constexpr std::array<std::string_view, 5> kOfTheWriter = {"_name_or_path", "transformers_version",
                                                          "torch_dtype", "dtype",
                                                          "_attn_implementation_autoset"};

Result<Json> config_in(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  BV_TRY(text, io::read_file(file, checkpoint::kConfigBytesMax, Code::ConfigField));
  return checkpoint::parse_config(text, file.string());
}

bool is_of_the_writer(std::string_view path) {
  const std::string_view last = path.substr(path.rfind('.') + 1);  // npos + 1 is 0
  return std::find(kOfTheWriter.begin(), kOfTheWriter.end(), last) != kOfTheWriter.end();
}

/// Every value that is no object, by its dotted path. Null is the same as absent.
void flatten(const Json& json, const std::string& path, std::map<std::string, std::string>& out) {
  for (const auto& [key, value] : json.items()) {
    const std::string inner = path.empty() ? key : path + "." + key;
    if (value.is_object()) {
      flatten(value, inner, out);
    } else if (!value.is_null() && !is_of_the_writer(inner)) {
      out[inner] = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
  }
}

std::map<std::string, std::string> fields_of(const Json& config) {
  std::map<std::string, std::string> out;
  if (config.is_object()) {
    flatten(config, "", out);
  }
  return out;
}

std::string stated(const model::Geometry& geometry, const std::string& symbol) {
  const auto value = geometry.get(symbol);
  const auto origin = geometry.origin.find(symbol);
  return fmt::format("{}{}", value ? std::to_string(*value) : "nothing",
                     origin == geometry.origin.end() ? "" : " from " + origin->second);
}

Verdict refuted(const std::string& symbol, std::string title, std::string found,
                std::string wanted) {
  Verdict out;
  out.claim = "shapes";
  out.rule = symbol;
  out.outcome = Outcome::Refuted;
  out.code = Code::ConfigField;
  out.cases = out.refuted_cases = 1;
  out.title = std::move(title);
  out.found = std::move(found);
  out.wanted = std::move(wanted);
  out.help = "correct config.json of B: the same tensors are another model under it";
  return out;
}

std::vector<Verdict> compare_sizes(const model::Geometry& a, const model::Geometry& b) {
  std::set<std::string> symbols;
  for (const model::Geometry* one : {&a, &b}) {
    for (const auto& [symbol, value] : one->symbols) {
      symbols.insert(symbol);
    }
  }
  std::vector<Verdict> out;
  for (const std::string& symbol : symbols) {
    if (a.get(symbol) != b.get(symbol)) {
      out.push_back(refuted(symbol, fmt::format("{} of the two models differs", symbol),
                            stated(b, symbol), stated(a, symbol)));
    }
  }
  if (a.layer_flags != b.layer_flags) {
    out.push_back(refuted("layers", "the layers of the two models are of different kinds",
                          "config.json of B", "config.json of A"));
  }
  if (out.empty()) {
    Verdict& same = out.emplace_back();
    same.claim = "shapes";
    same.outcome = Outcome::Proved;
    same.evidence.proved = true;
    same.cases = static_cast<std::int64_t>(symbols.size()) + 1;
  }
  return out;
}

/// Fields that say something else on the two sides.
std::string other_fields(const std::map<std::string, std::string>& a,
                         const std::map<std::string, std::string>& b) {
  std::map<std::string, std::string> all = a;
  all.insert(b.begin(), b.end());
  std::vector<std::string> shown;
  std::size_t count = 0;
  for (const auto& [path, value] : all) {
    const auto left = a.find(path);
    const auto right = b.find(path);
    if (left != a.end() && right != b.end() && left->second == right->second) {
      continue;
    }
    if (++count <= kShown) {
      const auto text = [](const auto& found, const auto& side) {
        return found == side.end() ? std::string("absent") : shortened(found->second, 40, true);
      };
      shown.push_back(fmt::format("{} ({} in A, {} in B)", shortened(escaped(path), 60, true),
                                  text(left, a), text(right, b)));
    }
  }
  return count == 0       ? ""
         : count > kShown ? fmt::format("{}, and {} more", join(shown, ", "), count - kShown)
                          : join(shown, ", ");
}

}  // namespace

Result<ConfigDifference> diff_configs(const fs::path& wanted, const fs::path& found,
                                      const std::vector<family::FamilyPtr>& families) {
  ConfigDifference out;
  const bool has_a = io::has_entry(wanted / "config.json");
  const bool has_b = io::has_entry(found / "config.json");
  if (!has_a || !has_b) {
    if (has_a != has_b) {
      out.notes.push_back(
          fmt::format("{} has no config.json: only tensors are compared", has_a ? "B" : "A"));
    }
    return out;
  }
  BV_TRY(a, config_in(wanted));
  const auto b = config_in(found);
  if (!b) {
    out.verdicts.push_back(refuted("config.json", "config.json of B cannot be read",
                                   b.error().message, "the sizes of A"));
    return out;
  }
  if (const std::string other = other_fields(fields_of(a), fields_of(*b)); !other.empty()) {
    out.notes.push_back("the two config.json differ: " + other);
  }
  const auto family = model::choose_family(a, families);
  if (!family) {
    return out;
  }
  const auto of_a = model::read_geometry(**family, a);
  if (!of_a) {
    return out;
  }
  const auto of_b = model::read_geometry(**family, *b);
  if (!of_b) {
    out.verdicts.push_back(refuted("config.json", "config.json of B does not give the sizes",
                                   of_b.error().message, "the sizes of A"));
    return out;
  }
  out.verdicts = compare_sizes(*of_a, *of_b);
  return out;
}

}  // namespace bv::cli
