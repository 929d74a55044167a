// certify: a stored run as one archive that others can check; certify verify: that check.

#include <fmt/format.h>

#include <filesystem>

#include "ci/cli/command.hpp"
#include "ci/cli/session/certified_model.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/fixture_model.hpp"
#include "ci/cli/session/report_file.hpp"
#include "ci/cli/session/session.hpp"
#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/io/gzip.hpp"
#include "core/io/named_output.hpp"
#include "core/io/sha256.hpp"
#include "core/io/tar.hpp"
#include "core/io/writer.hpp"
#include "core/verdict/certificate.hpp"
#include "core/verdict/gather.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "reports/formats.hpp"

namespace bv::cli {
namespace {

constexpr std::uint64_t kBundleBytesMax = std::uint64_t{1} << 30;
constexpr std::string_view kUsage =
    "bridge-verify certify OUT/verdicts.json --out model.bvcert.tar.gz";
constexpr std::string_view kSums = "SHA256SUMS";

using Files = std::map<std::string, std::string>;

/// The formats that a bundle holds, made of the run alone.
Files rendered(const Run& run) {
  Files out;
  for (const char* name : {"json", "html", "card", "markdown"}) {
    const reports::Format& format = *reports::find_format(name);
    out.emplace(format.file, format.render(run, {}));
  }
  return out;
}

std::string sums_of(const Files& files) {
  std::string out;
  for (const auto& [name, contents] : files) {
    out += name == kSums ? "" : io::sha256(contents) + "  " + name + "\n";
  }
  return out;
}

Error refusal(const std::string& path, const std::vector<std::string>& gaps) {
  Error out = fail(Code::BadValue, fmt::format("the run of {} cannot be certified", escaped(path)))
                  .advise("bridge-verify roundtrip --model DIR --layouts all --out OUT");
  for (const std::string& gap : gaps) {
    out.facts.push_back(escaped(gap));
  }
  return out;
}

Result<Run> stored_run(std::string_view text, const std::string& path) {
  auto run = read_verdicts_json(text, path);
  if (run) {
    run->verdicts = gathered(std::move(run->verdicts));
  }
  return run;
}

Status make_certificate(Context& context, const Options& options) {
  if (options.operands.size() > 1) {
    return fail(Code::UnknownOption,
                fmt::format("certify has no subcommand \"{}\"", escaped(options.operands.front())))
        .pair(escaped(options.operands.front()), "a verdicts.json, or verify and a certificate")
        .advise(std::string(kUsage));
  }
  if (options.operands.empty()) {
    return fail(Code::BadValue, "certify needs a verdicts.json and --out FILE")
        .advise(std::string(kUsage));
  }
  if (std::error_code ignored; !std::filesystem::exists(options.operands.front(), ignored)) {
    return fail(Code::BadValue, fmt::format("certify has no subcommand \"{0}\", and no file is "
                                            "named so",
                                            escaped(options.operands.front())))
        .pair(escaped(options.operands.front()), "a verdicts.json, or verify and a certificate")
        .advise(std::string(kUsage));
  }
  if (!options.model.empty()) {
    return fail(Code::Conflict, "--model belongs to certify verify")
        .advise("leave it out: verdicts.json says which model it is");
  }
  if (options.out.empty()) {
    return fail(Code::BadValue, "certify needs --out FILE").advise(std::string(kUsage));
  }
  const std::string& path = options.operands.front();
  BV_TRY(text, io::read_file(path, kBundleBytesMax, Code::VerdictsInvalid));
  BV_TRY(run, stored_run(text, path));
  if (const auto gaps = certificate_gaps(run); !gaps.empty()) {
    return refusal(path, gaps);
  }
  Files files = rendered(run);
  files.emplace(kSums, sums_of(files));
  BV_TRY(packed, io::gzip(io::tar(files)));
  BV_CHECK(check_report_file(options, options.out, kCertificate));
  BV_CHECK(io::write_named(options.out, packed));
  context.streams.out(fmt::format("certified {}: {} in {}\n", escaped(run.model_ref),
                                  counted(files.size(), "file"), escaped(options.out)));
  return Done{};
}

Error tampered(const std::string& path, const std::string& why) {
  return fail(Code::ContentsChanged,
              fmt::format("{} is not what was certified: {}", escaped(path), escaped(why)))
      .advise("get the file again from whoever made it");
}

/// The model that is here against the one that the certificate speaks of.
Status verify_model(Context& context, const Options& options, const Run& run) {
  BV_TRY(found, find_model(context, options));
  BV_CHECK(io::require_hf(found.located));
  BV_TRY(checkpoint, io::Checkpoint::open(found.located.path, options.strict));
  return check_contents(run, checkpoint, found.located.folder / "config.json", jobs_of(options),
                        options.model);
}

/// What a certificate binds, and what it does not.
std::string scope_text(const Run& run, const Options& options) {
  std::string out = fmt::format("speaks of weights {} ({}) and config.json {}\n",
                                escaped(fact_of(run, kContentsFact)),
                                counted(static_cast<std::uint64_t>(run.tensors), "tensor"),
                                escaped(fact_of(run, kConfigFact)));
  out += options.model.empty()
             ? "no model was compared with it: add --model DIR\n"
             : fmt::format("{} holds those weights and that config.json\n", escaped(options.model));
  return out +
         "not bound: tokenizer, code and other files; fingerprints find changes and sign nothing\n";
}

Status verify_certificate(Context& context, const Options& options) {
  if (options.operands.size() != 2) {
    return fail(Code::BadValue, "certify verify needs one certificate")
        .advise("bridge-verify certify verify model.bvcert.tar.gz");
  }
  const std::string& path = options.operands[1];
  BV_TRY(packed, io::read_file(path, kBundleBytesMax, Code::ContentsChanged));
  auto bytes = io::gunzip(packed, kBundleBytesMax, path);
  if (!bytes) {
    return tampered(path, "it is not a gzip stream that ends where it should");
  }
  BV_TRY(files, io::untar(*bytes, path));
  if (!files.contains(std::string(kSums)) || files.at(std::string(kSums)) != sums_of(files)) {
    return tampered(path, "SHA256SUMS does not fit the files");
  }
  if (!files.contains("verdicts.json")) {
    return tampered(path, "verdicts.json is missing");
  }
  BV_TRY(run, stored_run(files.at("verdicts.json"), "verdicts.json"));
  if (const auto gaps = certificate_gaps(run); !gaps.empty()) {
    return refusal(path, gaps);
  }
  const bool ours = run.tool.version == this_tool().version;
  for (const auto& [name, contents] : rendered(run)) {
    const auto at = files.find(name);
    if (at == files.end() || (ours && at->second != contents)) {
      return tampered(path, name + " does not say what verdicts.json says");
    }
  }
  if (!options.model.empty()) {
    BV_CHECK(verify_model(context, options, run));
  }
  context.streams.out(fmt::format("{}: sums and reports are right{}\n{}{}", escaped(path),
                                  ours ? "" : " (made by another version: reports not repeated)",
                                  scope_text(run, options), files.at("card.yaml")));
  return Done{};
}

}  // namespace

int run_certify(Context& context, const Options& options) {
  const bool verifies = !options.operands.empty() && options.operands.front() == "verify";
  const auto done =
      verifies ? verify_certificate(context, options) : make_certificate(context, options);
  return done ? 0 : report_error(context, options, done.error());
}

}  // namespace bv::cli
