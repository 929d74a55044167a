#pragma once
// lora convert: adapters of PEFT -> one file a rank, and back. The output appears by rename when it
// is complete.

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/progress.hpp"
#include "core/io/digest.hpp"
#include "core/lora/to_hf.hpp"
#include "core/lora/to_megatron.hpp"

namespace bv::comm {
class Link;
}

namespace bv::lora {

struct ConvertAdapterOptions {
  int jobs = 1;
  bool overwrite = false;
  bool verify = true;
  bool canonical = false;  // to Megatron
  ProgressSink* progress = nullptr;
  /// The processes that write the files together, all calling the same; null: this one alone.
  comm::Link* world = nullptr;
};

struct ConvertAdapterReport {
  io::Digests digests;                             // of the written files
  std::map<std::string, std::string> whole_files;  // to PEFT: XXH3-128 of each, where it was made
  std::int64_t tensors = 0;
  std::vector<std::string> notes;
};

/// Errors: those of plan_to_megatron, io::OutputFolder and convert::write_files.
[[nodiscard]] Result<ConvertAdapterReport> adapter_to_megatron(
    const Adapter& adapter, const SitePlan& sites, const std::filesystem::path& out,
    const ConvertAdapterOptions& options);

/// Errors: those of plan_to_hf, io::OutputFolder and convert::write_files.
[[nodiscard]] Result<ConvertAdapterReport> adapter_to_hf(const MegatronAdapter& adapter,
                                                         const HfAdapterFiles& files,
                                                         const std::filesystem::path& out,
                                                         const ConvertAdapterOptions& options);

/// An adapter of PEFT as other files of PEFT: `weights` are boxes over it.
[[nodiscard]] Result<ConvertAdapterReport> write_hf_adapter(const convert::OutputFile& weights,
                                                            const std::string& config_text,
                                                            const std::filesystem::path& source,
                                                            const std::filesystem::path& out,
                                                            const ConvertAdapterOptions& options);

}  // namespace bv::lora
