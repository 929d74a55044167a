#include "ci/cli/commands/merging_source.hpp"

#include <fmt/format.h>

#include "ci/cli/commands/lora_open.hpp"
#include "core/base/text.hpp"
#include "core/io/sha256.hpp"
#include "core/merge/merged_view.hpp"

namespace bv::cli {

std::string digest_of(const lora::Adapter& adapter) {
  std::string sums = lora::adapter_config_text(adapter.config);
  for (const auto& tensor : adapter.tensors) {
    const auto bytes = tensor->bytes;
    sums += fmt::format("{} {}\n", tensor->stored.spec.name,
                        io::sha256({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  }
  return io::sha256(sums).substr(0, 32);
}

std::string identity_of(const lora::Adapter& adapter, bool untie) {
  return fmt::format(" with an adapter {}{} merged", digest_of(adapter).substr(0, 16),
                     untie ? ", untied," : "");
}

std::string merged_note(const MergingSource& merging, const checkpoint::MegatronFolder* written) {
  const bool other = written != nullptr &&
                     (!written->adapter || written->adapter->digest != digest_of(*merging.adapter));
  return std::string("B must hold A with the adapter merged, rounded as lora merge does") +
         (!other             ? ""
          : written->adapter ? "; the adapter is not the one that B was written with"
                             : "; B was written without one");
}

Result<std::optional<MergingSource>> open_merging(Context& context, const Options& options,
                                                  const Library& library, Run& run,
                                                  cuda::StagedExecutor* device) {
  if (options.adapter.empty()) {
    if (options.untie) {
      return fail(Code::Conflict, "--untie belongs to --adapter")
          .advise("leave it out, or give the adapter that is to be merged");
    }
    return std::optional<MergingSource>();
  }
  Run of_base;  // the header of the run is that of the merged model
  BV_TRY(opened, open_base_and_adapter(context, options, library, of_base, UnknownBase::Refuse));
  BV_TRY(plan, lora::plan_merge(opened.model.hf, opened.adapter, options.untie));
  const std::size_t of_files = opened.model.warnings.size();  // these come with the model
  run.warnings.insert(run.warnings.end(),
                      of_base.warnings.begin() + static_cast<std::ptrdiff_t>(of_files),
                      of_base.warnings.end());
  run.notes.insert(run.notes.end(), opened.adapter.notes.begin(), opened.adapter.notes.end());
  const std::vector<std::string> notes = plan.notes();
  run.notes.insert(run.notes.end(), notes.begin(), notes.end());
  if (auto additions = lora::merged_additions(opened.model.hf, plan); !additions.empty()) {
    BV_TRY(again,
           open_model(context, options, library, AbsentShards::Refuse, std::move(additions)));
    opened.model = std::move(again);
  }
  run.notes.push_back(fmt::format(
      "{} of {} merged while they are {}", thousands(static_cast<std::int64_t>(plan.edits.size())),
      counted(static_cast<std::uint64_t>(opened.model.hf.headers.size()), "tensor"),
      options.command == "convert" ? "converted" : "read"));
  MergingSource out{std::move(opened.model),
                    std::make_unique<lora::Adapter>(std::move(opened.adapter))};
  BV_CHECK(lora::merge_when_read(*out.adapter, plan, jobs_of(options), out.model.hf, device));
  return std::optional<MergingSource>(std::move(out));
}

}  // namespace bv::cli
