#include "reports/formats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/text.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "reports/html_report.hpp"
#include "reports/machine_formats.hpp"
#include "reports/text.hpp"

namespace bv::reports {
namespace {

std::string json(const Run& run, const TextStyle&) {
  return verdicts_json(run);
}

std::string json_lines(const Run& run, const TextStyle&) {
  std::string out;
  for (const Verdict& verdict : run.verdicts) {
    out += verdict_json_line(verdict) + "\n";
  }
  return out;
}

std::string plain(const Run& run, const TextStyle&) {
  return render_plain(run);
}

constexpr std::array kFormats = {
    Format{"text", "report.txt", true, false, render_text},
    Format{"plain", "verdicts.tsv", false, false, plain},
    Format{"json", "verdicts.json", true, false, json},
    Format{"jsonl", "verdicts.jsonl", false, false, json_lines},
    Format{"html", "report.html", true, false, render_html},
    Format{"junit", "junit.xml", true, true, render_junit},
    Format{"sarif", "results.sarif", true, true, render_sarif},
    Format{"ctrf", "ctrf.json", true, true, render_ctrf},
    Format{"markdown", "summary.md", true, false, render_markdown},
    Format{"github", "annotations.txt", false, true, render_github},
    Format{"gitlab", "gl-code-quality.json", false, true, render_gitlab},
    Format{"csv", "verdicts.csv", false, false, render_csv},
    Format{"card", "card.yaml", false, false, render_card},
};

}  // namespace

std::span<const Format> formats() {
  return kFormats;
}

const Format* find_format(std::string_view name) {
  const auto found = std::find_if(kFormats.begin(), kFormats.end(),
                                  [name](const Format& one) { return one.name == name; });
  return found == kFormats.end() ? nullptr : &*found;
}

Result<std::vector<Wanted>> wanted_reports(std::span<const std::string> texts) {
  std::vector<Wanted> out;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const Format* format = find_format(name);
    if (format == nullptr) {
      std::vector<std::string> names;
      for (const Format& one : kFormats) {
        names.emplace_back(one.name);
      }
      const auto near = nearest(name, names);
      return fail(Code::BadValue, fmt::format("--report {}: there is no format \"{}\"",
                                              escaped(text), escaped(name)))
          .pair(escaped(name), "one of " + join(names, ", "))
          .advise(fmt::format("write --report {}=FILE", near.value_or("json")));
    }
    std::string file =
        equals == std::string::npos ? std::string(format->file) : text.substr(equals + 1);
    if (file.empty()) {
      return fail(Code::BadValue, fmt::format("--report {} names no file", escaped(text)))
          .advise(fmt::format("write --report {0}={1}, or --report {0}=- for stdout", name,
                              format->file));
    }
    if (std::any_of(out.begin(), out.end(), [&](const Wanted& one) { return one.file == file; })) {
      return fail(Code::Conflict,
                  fmt::format("two reports go to {}", file == "-" ? "stdout" : escaped(file)))
          .advise("give each report a file of its own");
    }
    out.push_back({format, std::move(file)});
  }
  return out;
}

}  // namespace bv::reports
