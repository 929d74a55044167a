#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <set>

#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/checkpoint/global_keys.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/movable.hpp"
#include "core/convert/convert.hpp"
#include "core/convert/hf_side.hpp"
#include "core/convert/key_dtypes.hpp"
#include "core/convert/shard_outputs.hpp"
#include "core/convert/window_maker.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/pickle/archive_writer.hpp"
#include "core/pickle/crc32.hpp"
#include "core/torch_dist/metadata_writer.hpp"
#include "core/torch_dist/store.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

constexpr const char* kIteration = "iter_0000000";
constexpr const char* kTracker = "latest_checkpointed_iteration.txt";
/// A file is closed when it holds so much: loaders read files in parallel.
constexpr std::uint64_t kFileBytes = std::uint64_t{4} << 30;
constexpr std::uint64_t kTensorAlignment = 4096;  // so that data can be mapped
constexpr std::uint64_t kObjectAlignment = 64;

std::uint64_t aligned(std::uint64_t at, std::uint64_t alignment) {
  return (at + alignment - 1) / alignment * alignment;
}

/// One chunk, and where its item stands.
struct Item {
  const checkpoint::KeyedChunk* chunk = nullptr;
  pickle::ArchiveWriter archive;
  std::size_t file = 0;
  std::uint64_t offset = 0;
};

/// One parameter, made once, and cut into items.
struct Job {
  OutputTensor tensor;
  std::vector<Item> items;
};

struct DistFile {
  std::string name;
  std::uint64_t size = 0;
};

/// What is written where, before the first byte.
struct DistPlan {
  std::vector<Job> jobs;
  std::vector<DistFile> files;
  std::string extra_state;  // the bytes of every object
  torch_dist::Metadata metadata;

  [[nodiscard]] torch_dist::Slice place(std::uint64_t length, std::uint64_t alignment) {
    if (files.empty() || files.back().size >= kFileBytes) {
      files.push_back({fmt::format("__0_{}.distcp", files.size()), 0});
    }
    DistFile& file = files.back();
    const torch_dist::Slice out{file.name, aligned(file.size, alignment), length};
    file.size = out.offset + length;
    return out;
  }
};

DistPlan lay_out(const checkpoint::HfModel& source, const plan::Plan& plan,
                 const plan::DtypePolicy& policy, std::span<const DType> types,
                 const checkpoint::GlobalKeys& keys) {
  DistPlan out;
  out.extra_state = torch_dist::empty_extra_state();
  for (const std::string& key : keys.extra_states) {
    out.metadata.objects.emplace(key, out.place(out.extra_state.size(), kObjectAlignment));
  }
  for (std::size_t i = 0; i < keys.targets.size(); ++i) {
    const checkpoint::KeyedTarget& keyed = keys.targets[i];
    Job job{output_of(source, plan, *keyed.target, policy), {}};
    job.tensor.spec.dtype = types[i];
    for (const checkpoint::KeyedChunk& chunk : keyed.chunks) {
      Item item{&chunk, pickle::tensor_archive(job.tensor.spec.dtype, chunk.extent)};
      torch_dist::Slice slice = out.place(item.archive.size(), kTensorAlignment);
      item.file = out.files.size() - 1;
      item.offset = slice.offset;
      torch_dist::StoredTensor& stored = out.metadata.tensors[chunk.key];
      stored.spec = {chunk.key, job.tensor.spec.dtype, keys.shapes.find(chunk.key)->second};
      stored.chunks.push_back({{chunk.origin, chunk.extent}, std::move(slice)});
      job.items.push_back(std::move(item));
    }
    out.jobs.push_back(std::move(job));
  }
  return out;
}

/// The elements of one item, window by window, and around them the archive.
class ItemWriter {
 public:
  ItemWriter(const Item& item, ElementWidth width, const io::PendingFile& file)
      : item_(item), begin_(width.to_bytes(item.chunk->begin)), file_(file) {}

  /// Where the file would have the parameter's first byte: below 0 for parts further on.
  [[nodiscard]] std::int64_t first_byte() const {
    return static_cast<std::int64_t>(item_.offset + item_.archive.head().size()) - begin_.value;
  }
  Status start() { return write(item_.offset, item_.archive.head()); }
  /// Windows of the parameter come in ascending order.
  Status take(ByteOffset at, std::span<const std::byte> window) {
    crc_ = pickle::crc32(window, crc_);
    return file_.write_at(item_.offset + item_.archive.head().size() + (at - begin_).size(),
                          window);
  }
  Status finish() {
    return write(item_.offset + item_.archive.head().size() + item_.archive.streamed(),
                 item_.archive.tail(crc_));
  }

 private:
  Status write(std::uint64_t at, std::string_view text) {
    return file_.write_at(at, std::as_bytes(std::span(text)));
  }

  const Item& item_;
  ByteOffset begin_;
  const io::PendingFile& file_;
  std::uint32_t crc_ = 0;
};

Status write_job(const Job& job, const std::deque<io::PendingFile>& files,
                 const ConvertOptions& options) {
  const ElementWidth width(job.tensor.spec.dtype);
  ItemWriter* now = nullptr;
  WindowMaker maker(
      job.tensor,
      [&now](ByteOffset at, std::span<const std::byte> window) { return now->take(at, window); },
      nullptr, Fingerprint::None);
  std::int64_t unreleased = 0;
  for (const Item& item : job.items) {
    ItemWriter writer(item, width, files[item.file]);
    now = &writer;
    BV_CHECK(writer.start());
    const WindowEnds ends{options.windows.bytes, 1, writer.first_byte(), width};
    for (ElementOffset at = item.chunk->begin, end; at < item.chunk->end; at = end) {
      end = std::min(item.chunk->end, ends.after(at));
      BV_CHECK(maker.make(at, end));
      unreleased += width.to_bytes(end - at).value;
      if (unreleased >= options.windows.release_bytes) {
        maker.release();
        unreleased = 0;
      }
      if (options.progress != nullptr) {
        options.progress->advance(width.to_bytes(end - at).size(), end == item.chunk->end ? 1 : 0,
                                  item.chunk->key);
        if (options.progress->stop_requested()) {
          return fail(Code::Stopped, "stopped before the end").advise("run convert again");
        }
      }
    }
    BV_CHECK(writer.finish());
  }
  maker.release();
  return Done{};
}

Status write_items(const fs::path& folder, const DistPlan& plan, const ConvertOptions& options) {
  std::uint64_t bytes = 0;
  std::uint64_t items = 0;
  std::deque<io::PendingFile> files;
  for (const DistFile& file : plan.files) {
    bytes += file.size;
  }
  BV_CHECK(io::check_room_for(folder, bytes));
  for (const DistFile& file : plan.files) {
    BV_TRY(pending, io::PendingFile::create(folder / file.name, file.size));
    files.push_back(std::move(pending));
  }
  for (const Job& job : plan.jobs) {
    items += job.items.size();
  }
  if (options.progress != nullptr) {
    options.progress->start("bytes", bytes, items);
  }
  for (const auto& [key, slice] : plan.metadata.objects) {
    const auto number = std::find_if(plan.files.begin(), plan.files.end(),
                                     [&](const DistFile& f) { return f.name == slice.file; });
    BV_CHECK(files[static_cast<std::size_t>(number - plan.files.begin())].write_at(
        slice.offset, std::as_bytes(std::span(plan.extra_state))));
  }
  BV_CHECK(for_each_parallel(plan.jobs.size(), options.jobs, [&](std::size_t i) -> Status {
    return write_job(plan.jobs[i], files, options);
  }));
  for (io::PendingFile& file : files) {
    BV_CHECK(file.commit());
  }
  return Done{};
}

/// What was written is what `.metadata` states, read by the reader of checkpoints of others.
Status read_back(const fs::path& folder, const DistPlan& plan, const ConvertOptions& options) {
  std::vector<std::string> notes;
  BV_TRY(store, torch_dist::DistCheckpoint::open(folder));
  BV_CHECK(store.check_sums(options.jobs, notes));
  const Headers found = store.headers();
  for (const auto& [key, tensor] : plan.metadata.tensors) {
    const auto there = found.find(key);
    if (there == found.end() || there->second.shape != tensor.spec.shape ||
        there->second.dtype != tensor.spec.dtype || !notes.empty()) {
      return fail(Code::WriteLost, fmt::format("{} is not what was written", key))
          .pair(there == found.end() ? "no such tensor" : shape_text(there->second.shape),
                shape_text(tensor.spec.shape))
          .advise("the disk lost a write: check the machine, then convert again");
    }
  }
  return Done{};
}

/// A UUID by name: equal checkpoints have equal ones.
std::string uuid_of(const DistPlan& plan) {
  io::Digest hash;
  for (const auto& [key, tensor] : plan.metadata.tensors) {
    const std::string line =
        fmt::format("{} {} {}\n", key, name(tensor.spec.dtype), shape_text(tensor.spec.shape));
    hash.add(std::as_bytes(std::span(line)));
  }
  const std::string hex = hash.hex().substr(0, 32);
  return fmt::format("{}-{}-8{}-8{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(13, 3),
                     hex.substr(17, 3), hex.substr(20, 12));
}

std::string in_iteration(std::string_view name) {
  return fmt::format("{}/{}", kIteration, name);
}

std::set<std::string> names_in(const DistPlan& plan, const ConvertOptions& options) {
  std::set<std::string> out = {kTracker, in_iteration(".metadata"), in_iteration("metadata.json"),
                               in_iteration("common.pt"), in_iteration(checkpoint::kRecordName)};
  if (!options.rules.empty()) {
    out.insert(in_iteration(checkpoint::kRulesName));
  }
  for (const DistFile& file : plan.files) {
    out.insert(in_iteration(file.name));
  }
  return out;
}

io::OutputRequest dist_request(const checkpoint::HfModel& source, const fs::path& out,
                               const ConvertOptions& options) {
  io::OutputRequest request{out, options.overwrite, false};
  request.resumable = false;
  request.sources = source.checkpoint->files();
  request.sources.push_back(source.folder);
  request.sources.insert(request.sources.end(), options.also_read.begin(), options.also_read.end());
  if (!options.rules.empty()) {
    request.sources.push_back(options.rules);
  }
  return request;
}

/// What Megatron does not read: how a reader of the checkpoint is to open the model it came from.
Status write_record(const checkpoint::HfModel& source, const parallel::Layout& layout,
                    const fs::path& iteration, const ConvertOptions& options) {
  checkpoint::MegatronFolder record = describe_hf_side(source, layout, options.dtype);
  record.adapter = options.adapter;
  if (!options.rules.empty()) {
    BV_TRY(rules, copy_rules(options.rules, iteration));
    record.rules = rules;
  }
  return io::write_file(iteration / checkpoint::kRecordName, checkpoint::record_text(record));
}

}  // namespace

Result<ConvertReport> to_torch_dist(const checkpoint::HfModel& source,
                                    const kinds::Catalogue& kinds, const parallel::Layout& layout,
                                    const fs::path& out, const ConvertOptions& options) {
  BV_TRY(plan, plan::Plan::make(source.model, kinds, layout));
  BV_CHECK(plan::check_dtypes(source.model, source.headers));
  for (const model::Mapping& mapping : source.model.mappings) {
    BV_CHECK(checkpoint::check_movable(source.headers, mapping, options.dtype));
  }
  BV_TRY(keys, checkpoint::global_keys(plan));
  const KeyDtypes dtypes = key_dtypes(source, plan, options.dtype, keys);
  const DistPlan written = lay_out(source, plan, options.dtype, dtypes.types, keys);
  io::OutputRequest request = dist_request(source, out, options);
  const std::set<std::string> names = names_in(written, options);
  request.files = names;
  request.first_stranger = [names](const fs::path& folder) {
    std::vector<std::string> known(names.begin(), names.end());
    known.push_back(in_iteration(checkpoint::kRulesName));
    return io::first_unlisted(folder, known);
  };
  BV_TRY(folder, io::OutputFolder::create(std::move(request)));
  BV_CHECK(folder.keep_only({}));
  const fs::path iteration = folder.partial() / kIteration;
  std::error_code error;
  fs::create_directories(iteration, error);
  BV_CHECK(write_items(iteration, written, options));
  BV_CHECK(source.checkpoint->unchanged());
  BV_CHECK(io::write_file(iteration / "common.pt", torch_dist::common_file()));
  BV_CHECK(
      io::write_file(iteration / ".metadata",
                     torch_dist::metadata_text(written.metadata, kIteration, uuid_of(written))));
  BV_CHECK(io::write_file(iteration / "metadata.json", torch_dist::format_text()));
  BV_CHECK(write_record(source, layout, iteration, options));
  BV_CHECK(io::write_file(folder.partial() / kTracker, "0"));
  if (options.verify) {
    BV_CHECK(read_back(iteration, written, options));
  }
  BV_CHECK(folder.finish(names));
  ConvertReport report;
  for (const Job& job : written.jobs) {
    for (const Item& item : job.items) {
      report.digests[fmt::format("{}/{}", kIteration, written.files[item.file].name)].emplace(
          fmt::format("{} {}", item.chunk->key, shape_text(item.chunk->origin)), "");
    }
  }
  report.tensors = std::ssize(written.jobs);
  report.notes = dtypes.notes;
  report.notes.push_back(
      "config and tokenizer stay with the HF model, and run_config.yaml is not written: Megatron's "
      "own arguments decide what is built");
  return report;
}

}  // namespace bv::convert
