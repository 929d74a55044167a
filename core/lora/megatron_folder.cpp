// What the files of a Megatron adapter say of it before they are read.

#include <algorithm>

#include "core/io/digest.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"
#include "core/lora/megatron_adapter.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

std::optional<parallel::Layout> layout_from_files(const fs::path& folder) {
  std::optional<parallel::Layout> out;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const auto key = at->path().extension() == ".safetensors"
                         ? parallel::shard_from_name(at->path().stem().string())
                         : std::nullopt;
    if (!key) {
      continue;
    }
    if (!out) {
      out.emplace();
    }
    out->tp = std::max(out->tp, key->tp + 1);
    out->pp = std::max(out->pp, key->pp + 1);
    out->ep = std::max(out->ep, key->ep + 1);
    out->etp = std::max(out->etp, key->etp + 1);
    out->vpp = std::max(out->vpp, key->vp + 1);
  }
  return out;
}

Result<std::optional<AdapterRecord>> read_record(const fs::path& folder) {
  const fs::path path = folder / kRecordName;
  if (!io::has_entry(path)) {
    return std::optional<AdapterRecord>();
  }
  BV_TRY(text, io::read_file(path, kRecordBytesMax, Code::AdapterInvalid));
  BV_TRY(record, parse_record(text, io::printable_path(path)));
  return std::optional(std::move(record));
}

std::string file_digest(const std::map<std::string, std::string>& tensors) {
  io::Digest out;
  for (const auto& [name, digest] : tensors) {
    out.add(name + "=" + digest + "\n");
  }
  return out.hex();
}

std::string digest_of(std::span<const std::byte> bytes) {
  io::Digest out;
  out.add(bytes);
  return out.hex();
}

std::string digest_of_tensors(const io::Checkpoint& file) {
  std::map<std::string, std::string> tensors;
  for (const auto& [name, stored] : file.tensors()) {
    tensors[name] = digest_of(file.bytes(stored));
  }
  return file_digest(tensors);
}

std::vector<ExchangedFile> exchanged_files(const MegatronAdapter& adapter, const plan::Plan& plan) {
  std::vector<ExchangedFile> out;
  if (!adapter.record) {
    return out;
  }
  const std::map<std::string, std::string>& written = adapter.record->files;
  for (std::size_t f = 0; f < adapter.files.size(); ++f) {
    const std::string& name = plan.files()[f].name;
    const auto own = written.find(name);
    const std::string found = digest_of_tensors(adapter.files[f]);
    if (own == written.end() || own->second == found) {
      continue;
    }
    const auto other = std::find_if(written.begin(), written.end(),
                                    [&](const auto& one) { return one.second == found; });
    if (other != written.end()) {
      out.push_back({name, other->first});
    }
  }
  return out;
}

}  // namespace bv::lora
