#include "reports/inspect_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "reports/printable.hpp"
#include "reports/wrap.hpp"

namespace bv::reports {
namespace {

using Json = nlohmann::ordered_json;

struct Totals {
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;
  std::map<std::string, std::int64_t> dtypes;
};

Totals totals_of(const std::vector<InspectedTensor>& rows) {
  Totals out;
  for (const InspectedTensor& row : rows) {
    out.elements = capped_add(out.elements, element_count(row.spec->shape).value_or(0));
    out.bytes += row.bytes;
    ++out.dtypes[std::string(bv::name(row.spec->dtype))];
  }
  return out;
}

std::string dumped(const Json& json) {
  return json_text(json, 2);
}

Json quantised_json(const InspectReport& seen) {
  if (!seen.quantised) {
    return nullptr;
  }
  Json schemes = Json::array();
  for (const QuantisedSource::Scheme& one : seen.quantised->schemes) {
    schemes.push_back({{"scheme", one.scheme},
                       {"weights", one.weights},
                       {"example", bounded(one.example, kNameKeptMax)}});
  }
  return {{"schemes", std::move(schemes)},
          {"tensors", seen.quantised->tensors},
          {"config", seen.quantised->config}};
}

Json row_json(const InspectedTensor& row) {
  return {{"name", bounded(row.spec->name, kNameKeptMax)},
          {"dtype", name(row.spec->dtype)},
          {"shape", row.spec->shape},
          {"bytes", row.bytes},
          {"shard", row.shard}};
}

/// `text` with each line but the first moved in by `columns`.
std::string indented(const std::string& text, std::size_t columns) {
  std::string out;
  for (const char c : text) {
    out += c;
    out += c == '\n' ? std::string(columns, ' ') : "";
  }
  return out;
}

}  // namespace

void inspect_json(const InspectReport& seen, const TextSink& out) {
  const Totals totals = totals_of(seen.tensors);
  Json findings = Json::array();
  for (const FormatFinding& one : seen.findings) {
    findings.push_back({{"file", one.file}, {"what", one.what}, {"code", label(one.code)}});
  }
  Json missing = Json::array();
  for (const MissingShard& one : seen.missing) {
    missing.push_back({{"file", one.file}, {"tensors", one.tensors}});
  }
  const std::string head = dumped({{"schema", "bridge-inspect/1"},
                                   {"model", seen.reference},
                                   {"form", seen.form},
                                   {"files", seen.files},
                                   {"tensors", seen.tensors.size()},
                                   {"elements", totals.elements},
                                   {"bytes", totals.bytes},
                                   {"dtypes", totals.dtypes},
                                   {"quantised", quantised_json(seen)}});
  const std::string tail =
      dumped({{"findings", std::move(findings)}, {"missing", std::move(missing)}});
  out(head.substr(0, head.size() - 2) + ",\n  \"rows\": [");
  for (std::size_t i = 0; i < seen.tensors.size(); ++i) {
    out((i == 0 ? "\n    " : ",\n    ") + indented(dumped(row_json(seen.tensors[i])), 4));
  }
  out((seen.tensors.empty() ? "]," : "\n  ],") + tail.substr(1) + "\n");
}

void inspect_plain(const InspectReport& seen, const TextSink& out) {
  for (const InspectedTensor& row : seen.tensors) {
    out(fmt::format("{}\t{}\t{}\t{}\t{}\n", escaped(bounded(row.spec->name, kNameKeptMax)),
                    name(row.spec->dtype), fmt::join(row.spec->shape, "x"), row.bytes,
                    escaped(row.shard)));
  }
}

namespace {

/// Name, type, shape, bytes and file in columns; names on lines of their own when they leave no
/// room for the rest.
void rows_text(const std::vector<InspectedTensor>& rows, const TextStyle& style,
               const TextSink& out) {
  const auto details = [&](const InspectedTensor& row) {
    return fmt::format("  {:<5} {:<20} {:>14}  {}\n", name(row.spec->dtype),
                       shape_text(row.spec->shape), thousands(static_cast<std::int64_t>(row.bytes)),
                       printable(row.shard, style.ascii));
  };
  std::size_t names = 0;
  std::size_t rest = 0;
  for (const InspectedTensor& row : rows) {
    names = std::max(names, columns(printable(row.spec->name, style.ascii)));
    rest = std::max(rest, columns(details(row)));
  }
  const bool below = names + rest > static_cast<std::size_t>(style.width);
  for (const InspectedTensor& row : rows) {
    const std::string printed = printable(row.spec->name, style.ascii);
    out(printed + (below ? "\n" : std::string(names - columns(printed), ' ')) + details(row));
  }
}

}  // namespace

void inspect_text(const InspectReport& seen, const TextStyle& style, bool brief,
                  const TextSink& out) {
  const bool ascii = style.ascii;
  const auto width = static_cast<std::size_t>(style.width);
  const auto line = [&](const std::string& text) { out(wrapped(text, 0, "  ", width) + "\n"); };
  if (!brief) {
    rows_text(seen.tensors, style, out);
  }
  const Totals totals = totals_of(seen.tensors);
  std::vector<std::string> dtypes;
  for (const auto& [dtype, count] : totals.dtypes) {
    dtypes.push_back(fmt::format("{} {}", dtype, thousands(count)));
  }
  out(brief ? "" : "\n");
  line(fmt::format("{}: {}, {}, {} in {}; {}", seen.form, counted(seen.tensors.size(), "tensor"),
                   counted(totals.elements, "element"), human_bytes(totals.bytes),
                   counted(seen.files, "file"), dtypes.empty() ? "nothing" : join(dtypes, ", ")));
  if (!seen.beside.empty()) {
    line(printable(seen.beside, ascii));
  }
  if (seen.quantised) {
    line(fmt::format(
        "quantised: {}{}", printable(seen.quantised->summary, ascii),
        seen.quantised->config.empty() ? "" : "; " + printable(seen.quantised->config, ascii)));
  }
  for (const FormatFinding& one : seen.findings) {
    line(fmt::format("finding  {}: {}", printable(one.file, ascii), printable(one.what, ascii)));
  }
}

}  // namespace bv::reports
