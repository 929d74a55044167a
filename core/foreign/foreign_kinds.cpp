#include "core/foreign/foreign_kinds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/family/builtin_files.hpp"
#include "core/family/expression.hpp"
#include "core/family/families.hpp"
#include "core/foreign/shown.hpp"
#include "core/foreign/usual.hpp"

namespace bv::foreign {
namespace {

using nlohmann::json;

constexpr std::string_view kTable = "upstream_classes";

Error table_fault(const std::string& message) {
  return fail(Code::Assertion, fmt::format("the built-in table {} is wrong: {}", kTable, message))
      .advise("report it with the output of bridge-verify doctor");
}

Sizes sizes_in(const json& node) {
  Sizes out;
  for (const auto& [axis, expression] : node.items()) {
    out[axis] = expression.get<std::string>();
  }
  return out;
}

Sizes sizes_at(const json& row, const char* key) {
  return row.contains(key) ? sizes_in(row.at(key)) : Sizes();
}

Line line_in(const json& row) {
  return {row.at("kind").get<std::string>(), sizes_at(row, "axes"),
          row.contains("rest") ? row.at("rest").get<std::size_t>() : kNoRest};
}

ForeignKind read_kind(const json& row) {
  ForeignKind out;
  out.names = row.at("names").get<std::vector<std::string>>();
  out.line = line_in(row);
  out.is_auto = row.value("auto", false);
  out.packed = row.value("packed", false);
  out.planted = row.value("planted", false);
  out.sources = row.at("sources").get<std::vector<std::vector<std::string>>>();
  const auto value = family::value_rule_from(row.value("value", ""));
  BV_ASSERT(value.has_value());
  out.value = *value;
  out.when = sizes_at(row, "when");
  out.text = row.value("line", "");
  for (const json& sizes : row.value("vision", json::array())) {
    out.vision.push_back(sizes_in(sizes));
  }
  out.hidden = row.value("hidden", std::size_t{0});
  const auto line_at = [&row](const char* key) {
    return row.contains(key) ? std::optional(line_in(row.at(key))) : std::nullopt;
  };
  out.transposed = line_at("transposed");
  out.pair = line_at("pair");
  out.bias = line_at("bias");
  out.column = line_at("column");
  out.column_transposed = line_at("column_transposed");
  return out;
}

/// "s0d1": a dimension of a tensor.
bool is_dimension(std::string_view word) {
  return word.size() == 4 && word[0] == 's' && word[2] == 'd' &&
         std::isdigit(static_cast<unsigned char>(word[1])) != 0 &&
         std::isdigit(static_cast<unsigned char>(word[3])) != 0;
}

/// Every word of a size is a dimension, the rank count t, or a number that a config may give.
Status check_sizes(const ForeignKind& kind, const std::vector<std::string>& symbols) {
  std::vector<const Sizes*> all = {&kind.line.axes};
  for (const Sizes& sizes : kind.vision) {
    all.push_back(&sizes);
  }
  for (const auto* line :
       {&kind.transposed, &kind.pair, &kind.bias, &kind.column, &kind.column_transposed}) {
    if (*line) {
      all.push_back(&(*line)->axes);
    }
  }
  for (const Sizes* sizes : all) {
    for (const auto& [axis, expression] : *sizes) {
      for (const std::string& word : family::identifiers(expression)) {
        if (word != "t" && !is_dimension(word) &&
            std::find(symbols.begin(), symbols.end(), word) == symbols.end()) {
          return table_fault(
              fmt::format("kind {} uses the unknown number {}", kind.names.front(), word));
        }
      }
    }
  }
  return Done{};
}

Result<ForeignKinds> read_table(std::string_view text) {
  ForeignKinds out;
  try {
    const json top = json::parse(text);
    for (const json& row : top.at("classes")) {
      out.kinds.push_back(read_kind(row));
    }
    for (const json& row : top.at("permuted")) {
      out.permuted.push_back(read_kind(row));
    }
    for (const json& row : top.at("sliced")) {
      out.sliced.push_back(read_kind(row));
    }
    for (const json& row : top.at("differences")) {
      out.differences.push_back(
          {row.at("family").get<std::string>(), row.at("number").get<std::string>(),
           row.at("value").get<std::int64_t>(), row.at("note").get<std::string>()});
    }
    top.at("neighbours_rotated").get_to(out.neighbours_rotated);
    for (const json& row : top.at("spellings")) {
      for (const json& megatron : row.at("megatron")) {
        for (const json& hf : row.at("hf")) {
          out.spellings.emplace_back(megatron.get<std::string>(), hf.get<std::string>());
        }
      }
    }
    const json& globs = top.at("auto");
    globs.at("replicated").get_to(out.auto_replicated);
    globs.at("row").get_to(out.auto_row);
    globs.at("row_bias").get_to(out.auto_row_bias);
    globs.at("column").get_to(out.auto_column);
  } catch (const json::exception& error) {
    return table_fault(error.what());
  }
  return out;
}

Status check_table(ForeignKinds& kinds) {
  BV_TRY(symbols, usual_symbols());
  std::string text = std::string(kinds::builtin_text()) + "\n";
  for (const auto* list : {&kinds.kinds, &kinds.permuted, &kinds.sliced}) {
    for (const ForeignKind& kind : *list) {
      BV_CHECK(check_sizes(kind, symbols));
      text += kind.text.empty() ? "" : kind.text + "\n";
    }
  }
  auto lines = kinds::Catalogue::parse(text, "kinds.layout and upstream_classes.json");
  if (!lines) {
    return table_fault(lines.error().message);
  }
  kinds.lines = std::move(*lines);
  for (const auto* list : {&kinds.kinds, &kinds.permuted, &kinds.sliced}) {
    for (const ForeignKind& kind : *list) {
      if (kinds.lines.find(kind.line.kind) == nullptr) {
        return table_fault(fmt::format("there is no line {}", kind.line.kind));
      }
    }
  }
  return Done{};
}

bool any_glob(const std::vector<std::string>& globs, std::string_view text) {
  return std::any_of(globs.begin(), globs.end(),
                     [text](const std::string& glob) { return glob_match(glob, text); });
}

}  // namespace

Result<ForeignKinds> foreign_kinds() {
  for (const family::BuiltinFile& file : family::builtin_tables_files()) {
    if (file.name.find(kTable) != std::string_view::npos) {
      BV_TRY(kinds, read_table(file.text));
      BV_CHECK(check_table(kinds));
      return std::move(kinds);
    }
  }
  return table_fault("it is not there");
}

namespace {

void add_axes(const layout::Product& product, std::vector<std::string>& out) {
  for (const layout::Factor& factor : product) {
    if (factor.kind == layout::Factor::Kind::Axis) {
      out.push_back(factor.axis);
    }
    for (const layout::Choice& choice : factor.choices) {
      add_axes(choice.product, out);
    }
  }
}

/// Sizes that a dimension gives alone: o of x[(t o) i] is s0d0 / t, and i is s0d1.
void derive_sizes(const layout::Rule& line, Sizes& sizes) {
  for (std::size_t s = 0; s < line.sources.size(); ++s) {
    const auto& dims = line.sources[s].dims;
    for (std::size_t d = 0; d < dims.size() && !dims[d].rest; ++d) {
      std::vector<std::string> axes;
      add_axes(dims[d].product, axes);
      const auto cut = std::erase(axes, "t");
      const bool sum = std::any_of(dims[d].product.begin(), dims[d].product.end(),
                                   [](const auto& factor) { return !factor.choices.empty(); });
      if (axes.size() == 1 && !sum) {
        sizes.try_emplace(axes.front(), fmt::format("s{}d{}{}", s, d, cut > 0 ? " / t" : ""));
      }
    }
  }
}

Error wrong_line(const ForeignRule& rule, std::string found, std::string wanted) {
  return fail(Code::RulesInvalid,
              fmt::format("the layout of rule {} is not a line of notation", shown(rule.id)))
      .at(rule.source)
      .pair(std::move(found), std::move(wanted))
      .advise("bridge-verify rules list shows lines; write one without its name");
}

/// Every axis has a size, and every size is made of what a model may give.
Status check_axes(const ForeignRule& rule, const layout::Rule& line, const ForeignKind& kind,
                  const std::vector<std::string>& symbols) {
  std::vector<std::string> axes;
  for (const layout::TensorExpr& source : line.sources) {
    for (const layout::Dim& dim : source.dims) {
      add_axes(dim.product, axes);
    }
  }
  for (const std::string& axis : axes) {
    if (axis != "t" && !kind.line.axes.contains(axis)) {
      return wrong_line(rule, "no size of axis " + axis, R"("axes": a size for each axis but t)");
    }
  }
  if (const Status known = check_sizes(kind, symbols); !known) {
    return wrong_line(rule, known.error().message,
                      "sizes of sNdM (dimension M of HF tensor N), t and numbers of the config");
  }
  return Done{};
}

Result<ForeignKind> kind_of_line(const ForeignRule& rule, const std::vector<std::string>& symbols) {
  ForeignKind kind;
  kind.names = {rule.kind};
  kind.planted = true;  // nobody else may use it
  kind.text = fmt::format("{}  {}", rule.kind, rule.layout);
  const auto parsed = kinds::Catalogue::parse(kind.text, "layout");
  if (!parsed || parsed->rules().size() != 1 || parsed->rules().front().targets.size() != 1) {
    const std::string why = parsed ? "not one line with one parameter" : parsed.error().message;
    return wrong_line(rule, shown(rule.layout), "source[..], ... -> parameter[..]: " + why);
  }
  const layout::Rule& line = parsed->rules().front();
  kind.line.kind = rule.kind;
  for (const auto& [axis, size] : rule.axes) {
    kind.line.axes.emplace(axis, size);
  }
  derive_sizes(line, kind.line.axes);
  for (const layout::TensorExpr& source : line.sources) {
    kind.sources.push_back({source.name});
  }
  const auto& dims = line.sources.front().dims;
  const auto rest =
      std::find_if(dims.begin(), dims.end(), [](const layout::Dim& dim) { return dim.rest; });
  kind.line.rest =
      rest == dims.end() ? kNoRest : static_cast<std::size_t>(std::distance(dims.begin(), rest));
  const auto& grid = line.targets.front().grid;
  kind.packed = std::any_of(grid.begin(), grid.end(),
                            [](const layout::GridAxis& one) { return one.axis == "E"; });
  BV_CHECK(check_axes(rule, line, kind, symbols));
  return kind;
}

}  // namespace

Result<ForeignKinds> foreign_kinds(const ForeignRules& rules) {
  BV_TRY(kinds, foreign_kinds());
  BV_TRY(symbols, usual_symbols());
  bool more = false;
  for (const ForeignRule& rule : rules.rules) {
    if (!rule.layout.empty()) {
      BV_TRY(kind, kind_of_line(rule, symbols));
      kinds.kinds.push_back(std::move(kind));
      more = true;
    }
  }
  if (more) {
    BV_CHECK(check_table(kinds));
  }
  return std::move(kinds);
}

std::vector<std::string> upstream_differences(const model::Model& model) {
  std::vector<std::string> out;
  const auto kinds = foreign_kinds();
  const std::string family = family::name(*model.family);
  for (const ForeignKinds::Difference& one :
       kinds ? kinds->differences : std::vector<ForeignKinds::Difference>()) {
    const auto value = one.number == "tied" ? std::optional<std::int64_t>(model.tied ? 1 : 0)
                                            : model.geometry.get(one.number);
    if (one.family == family && value == one.value) {
      out.push_back(one.note);
    }
  }
  return out;
}

const ForeignKind* ForeignKinds::find(std::string_view name) const {
  for (const ForeignKind& kind : kinds) {
    if (std::find(kind.names.begin(), kind.names.end(), name) != kind.names.end()) {
      return &kind;
    }
  }
  return nullptr;
}

std::string_view ForeignKinds::parallelism(std::string_view megatron) const {
  if (any_glob(auto_replicated, megatron) || any_glob(auto_row_bias, megatron)) {
    return "replicated";
  }
  return any_glob(auto_row, megatron) ? "row" : any_glob(auto_column, megatron) ? "column" : "";
}

std::vector<std::string> ForeignKinds::offered() const {
  std::vector<std::string> out;
  for (const ForeignKind& kind : kinds) {
    if (!kind.planted) {
      out.insert(out.end(), kind.names.begin(), kind.names.end());
    }
  }
  return out;
}

}  // namespace bv::foreign
