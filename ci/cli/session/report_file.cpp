#include "ci/cli/session/report_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "core/base/text.hpp"
#include "core/io/gzip.hpp"
#include "core/io/tar.hpp"
#include "core/io/writer.hpp"
#include "core/verdict/verdict.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

/// Files and folders that the line names, beside those of the output.
std::vector<fs::path> named_inputs(const Options& options) {
  std::vector<fs::path> out(options.operands.begin(), options.operands.end());
  for (const Setting& given : options.given) {
    const OptionSpec* spec = find_option(given.name);
    const bool written = spec != nullptr && (spec->group == "output" || spec->name == "survivors");
    if (spec != nullptr && !written && takes_value(spec->form)) {
      out.emplace_back(given.text);
    }
  }
  return out;
}

/// What stands in every file of a form: at its very beginning, and within its first or last bytes.
struct Mark {
  std::string_view form;
  std::string_view begin, inside;
};
constexpr std::array kMarks = {
    Mark{"text", "", "\nbridge-verify: "},
    Mark{"text", "before   ", "\nunchanged ("},  // of report diff
    Mark{"json", "{", "\"schema\": \"bridge-verdicts/1\""},
    Mark{"jsonl", "{\"id\":\"", "\"evidence\":\""},
    Mark{"html", "<!DOCTYPE html>", " - bridge-verify</title>"},
    Mark{"junit", "<?xml", "<testsuites name=\"bridge-verify "},
    Mark{"sarif", "{", "\"name\": \"bridge-verify\""},
    Mark{"ctrf", "{", "\"generatedBy\": \"bridge-verify\""},
    Mark{"markdown", "**bridge-verify ", ""},
    Mark{"github", "::", "\nbridge-verify "},
    Mark{"github", "bridge-verify ", ""},
    Mark{"gitlab", "[", "\"check_name\": \"BV"},
    Mark{"gitlab", "[]\n", ""},
    Mark{"csv", "id,outcome,code,claim,rule,", ""},
    Mark{"card", "bridge_verify:\n", ""},
    Mark{kSurvivors, "{\"", "\"equivalent_here\":"},
};

bool has_mark(const Mark& mark, std::string_view head, std::string_view tail) {
  return head.starts_with(mark.begin) && (head.find(mark.inside) != std::string_view::npos ||
                                          tail.find(mark.inside) != std::string_view::npos);
}

/// Rows without a title: the first word is an outcome.
bool is_plain(std::string_view head) {
  constexpr std::array kOutcomes = {Outcome::Proved,       Outcome::Held,        Outcome::Refuted,
                                    Outcome::Inconclusive, Outcome::Unsupported, Outcome::Waived,
                                    Outcome::Broken};
  const std::string_view first = head.substr(0, head.find('\t'));
  return head.find('\t') != std::string_view::npos &&
         std::any_of(kOutcomes.begin(), kOutcomes.end(),
                     [&](Outcome outcome) { return name(outcome) == first; });
}

bool is_certificate(const fs::path& file) {
  constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 28;
  const auto packed = io::read_file(file, kBytesMax);
  const auto bytes =
      packed ? io::gunzip(*packed, kBytesMax, file.string()) : Result<std::string>(packed.error());
  const auto files = bytes ? io::untar(*bytes, file.string())
                           : Result<std::map<std::string, std::string>>(bytes.error());
  return files && files->contains("verdicts.json") && files->contains("SHA256SUMS");
}

}  // namespace

bool is_report(const fs::path& file, std::string_view form) {
  constexpr std::streamoff kLooked = 4096;
  std::ifstream in(file, std::ios::binary);
  in.seekg(0, std::ios::end);
  const std::streamoff size = in.tellg();
  if (size == 0 || form == kCertificate) {
    return size == 0 || is_certificate(file);
  }
  std::string head(kLooked, '\0');
  std::string tail(kLooked, '\0');
  for (auto [text, at] : {std::pair(&head, std::streamoff{0}),
                          std::pair(&tail, std::max<std::streamoff>(0, size - kLooked))}) {
    in.clear();
    in.seekg(at);
    in.read(text->data(), kLooked);
    text->resize(static_cast<std::size_t>(in.gcount()));
  }
  const bool any = form == kAnyReport;
  return ((any || form == "plain") && is_plain(head)) ||
         std::any_of(kMarks.begin(), kMarks.end(), [&](const Mark& mark) {
           return (any || mark.form == form) && has_mark(mark, head, tail);
         });
}

Status check_report_file(const Options& options, const fs::path& file, std::string_view form) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) {
    return Done{};
  }
  for (const fs::path& input : named_inputs(options)) {
    if (fs::equivalent(file, input, ignored)) {
      return fail(Code::OutputExists,
                  fmt::format("{} is read, and would be written over", escaped(file.string())))
          .advise("give the report another name; nothing was written");
    }
  }
  if (is_report(file, form)) {
    return Done{};
  }
  return fail(Code::OutputExists,
              fmt::format("{} is there, and no earlier run wrote it", escaped(file.string())))
      .pair("a file of somebody else", form == kAnyReport
                                           ? "a report of bridge-verify, or no file"
                                           : fmt::format("a file of form {}, or none", form))
      .advise("choose another name, or move the file away; nothing was written");
}

}  // namespace bv::cli
