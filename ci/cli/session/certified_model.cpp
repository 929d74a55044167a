#include "ci/cli/session/certified_model.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/checkpoint/hf_model.hpp"
#include "core/io/content_digest.hpp"
#include "core/io/digest.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"
#include "core/verdict/certificate.hpp"

namespace bv::cli {
namespace {

Result<std::string> config_digest(const std::filesystem::path& config) {
  BV_TRY(text, io::read_file(config, checkpoint::kConfigBytesMax, Code::ConfigField));
  io::Digest digest;
  digest.add(std::string_view(text));
  return digest.hex();
}

}  // namespace

Status add_contents(const io::Checkpoint& checkpoint, const std::filesystem::path& config, int jobs,
                    ProgressSink* progress, Run& run) {
  BV_TRY(contents, io::content_digest(checkpoint, jobs, progress));
  BV_TRY(of_config, config_digest(config));
  run.detected.push_back(
      {std::string(kContentsFact), std::move(contents),
       fmt::format("every byte of {}, {}", counted(checkpoint.tensors().size(), "tensor"),
                   human_bytes(checkpoint.total_bytes()))});
  run.detected.push_back({std::string(kConfigFact), std::move(of_config), "config.json"});
  return Done{};
}

Status check_contents(const Run& run, const io::Checkpoint& checkpoint,
                      const std::filesystem::path& config, int jobs, const std::string& shown) {
  const auto refuse = [&shown](std::string_view what, std::string found, std::string wanted) {
    return fail(Code::ContentsChanged,
                fmt::format("{} is not the model that was certified: other {}",
                            io::printable(shown), what))
        .at(io::printable(shown))
        .pair(std::move(found), std::move(wanted))
        .advise("get the model again from whoever made the certificate, or certify this one");
  };
  if (std::string headers = checkpoint::header_digest(checkpoint.headers());
      headers != run.header_digest) {
    return refuse("names, types or shapes of tensors", std::move(headers), run.header_digest);
  }
  BV_TRY(contents, io::content_digest(checkpoint, jobs));
  if (const std::string wanted = fact_of(run, kContentsFact); contents != wanted) {
    return refuse("weights", std::move(contents), wanted);
  }
  BV_TRY(of_config, config_digest(config));
  if (const std::string wanted = fact_of(run, kConfigFact); of_config != wanted) {
    return refuse("config.json", std::move(of_config), wanted);
  }
  return checkpoint.unchanged();
}

}  // namespace bv::cli
