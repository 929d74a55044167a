#include "core/lora/convert_adapter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "core/convert/shared_output.hpp"
#include "core/io/carry_file.hpp"
#include "core/io/entry.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/lora/class_modules.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

namespace {

/// A small text that goes along with the weights, made from their fingerprints.
struct TextFile {
  std::string name;
  std::function<std::string(const io::Digests&)> text;
};

/// Fingerprints of whole files, made while they are written.
enum class FilePrints { None, Made };

/// What an earlier output holds: an adapter of either form.
std::optional<std::string> first_stranger(const fs::path& folder) {
  std::vector<std::string> names = {std::string(kAdapterConfigName), std::string(kAdapterModelName),
                                    std::string(kRecordName)};
  const auto record = read_record(folder);
  if (record && *record) {
    for (const auto& [name, digest] : (*record)->files) {
      names.push_back(name);
    }
  }
  return io::first_unlisted(folder, names);
}

Result<ConvertAdapterReport> write_folder(const std::vector<convert::OutputFile>& outputs,
                                          const fs::path& source, const fs::path& out,
                                          const ConvertAdapterOptions& options,
                                          const TextFile& beside, FilePrints prints) {
  BV_TRY(plans, convert::plan_files(outputs));
  io::OutputRequest request{out, options.overwrite, false};
  if (!source.empty()) {
    request.sources = {source};
  }
  request.first_stranger = first_stranger;
  const std::set<std::string> files = [&] {
    std::set<std::string> names = convert::names_of(outputs);
    names.insert(beside.name);
    return names;
  }();
  request.files = files;
  BV_TRY(folder, convert::SharedOutput::create(std::move(request), {}, options.world));
  const std::vector<int> processes = folder.balanced(plans);
  std::map<std::string, std::string> whole_files;
  convert::StreamOptions stream{options.jobs, options.progress};
  stream.whole_files = prints == FilePrints::Made ? &whole_files : nullptr;
  BV_TRY(digests, folder.write(outputs, std::move(plans), processes, stream, options.verify));
  if (folder.is_host()) {
    BV_CHECK(io::write_file(folder.partial() / beside.name, beside.text(digests)));
  }
  BV_CHECK(folder.finish(files));
  ConvertAdapterReport report;
  for (const convert::OutputFile& file : outputs) {
    report.tensors += static_cast<std::int64_t>(file.tensors.size());
  }
  report.digests = std::move(digests);
  report.whole_files = std::move(whole_files);
  return report;
}

/// The shards are those that lora convert wrote: nobody trained them since.
bool is_as_written(const MegatronAdapter& adapter) {
  return std::all_of(adapter.record->files.begin(), adapter.record->files.end(),
                     [&](const auto& one) {
                       const auto file = io::Checkpoint::open(adapter.folder / one.first);
                       return file && digest_of_tensors(*file) == one.second;
                     });
}

/// A sentence when adapter_model.safetensors does not come back byte for byte; "" when it does, or
/// when it cannot: the adapter was trained since.
Result<std::string> note_of_weights(const MegatronAdapter& adapter, const fs::path& out,
                                    const ConvertAdapterReport& report) {
  if (!adapter.record || adapter.record->weights.empty()) {
    return std::string();
  }
  const fs::path path = out / kAdapterModelName;
  std::string digest;
  if (const auto made = report.whole_files.find(std::string(kAdapterModelName));
      made != report.whole_files.end()) {
    digest = made->second;
  } else {
    BV_TRY(print, io::print_of_file(path));
    digest = print.digest;
  }
  if (digest == adapter.record->weights || !is_as_written(adapter)) {
    return std::string();
  }
  BV_TRY(file, io::Checkpoint::open(path));
  return fmt::format("{} is not byte for byte the file that was converted: {}", kAdapterModelName,
                     digest_of_tensors(file) == adapter.record->tensors
                         ? "its tensors are, and their order or the metadata of its header differ"
                         : "the names or dtypes of its tensors, or how they are divided, differ");
}

/// Of adapter_model.safetensors, and of its tensors' fingerprints.
struct WeightPrints {
  std::string weights;
  std::string tensors;
};

/// In one pass. Tensors that do not lie in the file as they are have a fingerprint of their own.
Result<WeightPrints> prints_of_weights(const Adapter& adapter, const fs::path& weights) {
  std::vector<const AdapterTensor*> stored;
  std::map<std::string, std::string> tensors;
  const io::TensorStore* file = nullptr;  // the store that is this file
  for (const auto& tensor : adapter.tensors) {
    std::error_code ignored;
    if (file == nullptr && tensor->store != nullptr && tensor->store->files().size() == 1 &&
        fs::equivalent(tensor->store->files().front(), weights, ignored)) {
      file = tensor->store;
    }
    if (file != nullptr && tensor->store == file &&
        tensor->bytes.size() == tensor->stored.end - tensor->stored.begin) {
      stored.push_back(tensor.get());
    } else {
      tensors[tensor->stored.spec.name] = digest_of(tensor->bytes);
    }
  }
  std::sort(stored.begin(), stored.end(), [](const AdapterTensor* a, const AdapterTensor* b) {
    return std::tie(a->stored.begin, a->stored.end) < std::tie(b->stored.begin, b->stored.end);
  });
  std::vector<io::FileRange> ranges;
  for (const AdapterTensor* tensor : stored) {
    ranges.push_back({tensor->stored.begin, tensor->stored.end});
  }
  BV_TRY(prints, io::prints_of_file(weights, ranges));
  for (std::size_t i = 0; i < stored.size(); ++i) {
    tensors[stored[i]->stored.spec.name] = std::move(prints.ranges[i]);
  }
  return WeightPrints{prints.whole.digest, file_digest(tensors)};
}

}  // namespace

Result<ConvertAdapterReport> adapter_to_megatron(const Adapter& adapter, const SitePlan& sites,
                                                 const fs::path& out,
                                                 const ConvertAdapterOptions& options) {
  BV_TRY(planned, plan_to_megatron(adapter, sites, {options.canonical}));
  const fs::path config_file = adapter.folder / kAdapterConfigName;
  auto config = io::read_file(config_file, kAdapterConfigBytesMax, Code::AdapterInvalid);
  planned.record.config = config ? std::move(*config) : adapter_config_text(adapter.config);
  planned.record.text_model = is_of_text_class(adapter, sites.plan().model());
  if (const fs::path weights = adapter.folder / kAdapterModelName; io::has_entry(weights)) {
    BV_TRY(prints, prints_of_weights(adapter, weights));
    planned.record.weights = std::move(prints.weights);
    planned.record.tensors = std::move(prints.tensors);
  }
  const TextFile record = {
      std::string(kRecordName), [&planned](const io::Digests& digests) {
        for (const convert::OutputFile& file : planned.files) {
          const auto found = digests.find(file.name);
          planned.record.files[file.name] = file_digest(
              found == digests.end() ? std::map<std::string, std::string>() : found->second);
        }
        return record_text(planned.record);
      }};
  BV_TRY(report,
         write_folder(planned.files, adapter.folder, out, options, record, FilePrints::None));
  report.notes = std::move(planned.notes);
  return std::move(report);
}

Result<ConvertAdapterReport> write_hf_adapter(const convert::OutputFile& weights,
                                              const std::string& config_text,
                                              const fs::path& source, const fs::path& out,
                                              const ConvertAdapterOptions& options) {
  return write_folder(
      {weights}, source, out, options,
      {std::string(kAdapterConfigName), [&config_text](const io::Digests&) { return config_text; }},
      FilePrints::Made);
}

Result<ConvertAdapterReport> adapter_to_hf(const MegatronAdapter& adapter,
                                           const HfAdapterFiles& files, const fs::path& out,
                                           const ConvertAdapterOptions& options) {
  BV_TRY(report, write_hf_adapter(files.weights, files.config_text, adapter.folder, out, options));
  report.notes = files.notes;
  report.notes.insert(report.notes.begin(), adapter.notes.begin(), adapter.notes.end());
  if (options.world != nullptr && options.world->rank() != 0) {
    return std::move(report);  // the folder is another process's
  }
  BV_TRY(note, note_of_weights(adapter, out, report));
  if (!note.empty()) {
    report.notes.push_back(std::move(note));
  }
  return std::move(report);
}

}  // namespace bv::lora
