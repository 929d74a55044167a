#include "core/exec/stream.hpp"

#include <fmt/format.h>

#include <atomic>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "core/base/arith.hpp"
#include "core/exec/digest.hpp"
#include "core/exec/move.hpp"
#include "core/io/writer.hpp"
#include "core/kinds/values.hpp"

namespace bv::exec {
namespace {

/// A window is made, fingerprinted and written while it is in the second-level cache.
constexpr std::int64_t kWindowBytes = std::int64_t{256} << 10;
constexpr std::int64_t kReleaseBytes = std::int64_t{8} << 20;

/// One output file while it is written.
struct OpenFile {
  std::mutex mutex;
  io::SafetensorsPlan plan;
  std::optional<io::PendingFile> pending;
  std::size_t left = 0;
  std::map<std::string, std::string> digests;
};

struct Task {
  std::size_t file = 0;
  std::size_t tensor = 0;    // index into OutputFile::tensors
  std::uint64_t offset = 0;  // in the file
};

/// Fills `window` with the elements [begin, end) of one tensor.
class WindowMaker {
 public:
  explicit WindowMaker(const OutputTensor& tensor) : tensor_(tensor), boxes_(tensor.boxes()) {
    for (const SourceTensor& source : tensor.sources) {
      bytes_.push_back(source.checkpoint->bytes(*source.tensor));
    }
  }

  void make(std::int64_t begin, std::int64_t end, std::vector<std::byte>& window) {
    pieces_.clear();
    for (const layout::Box& box : boxes_) {
      layout::pieces_in(box, begin, end, pieces_);
    }
    const DType to = tensor_.spec.dtype;
    window.resize(static_cast<std::size_t>((end - begin) * bytes(to)));
    if (tensor_.add != 0) {
      make_shifted(begin, end, window);
      return;
    }
    for (const layout::BoxPiece& piece : pieces_) {
      cast_piece(isa_, piece, source_of(piece), dtype_of(piece), window.data(), begin, to);
    }
  }

  void release() const {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      tensor_.sources[i].checkpoint->release(bytes_[i]);
    }
  }

 private:
  [[nodiscard]] const std::byte* source_of(const layout::BoxPiece& piece) const {
    return piece.source < 0 ? nullptr : bytes_[static_cast<std::size_t>(piece.source)].data();
  }
  [[nodiscard]] DType dtype_of(const layout::BoxPiece& piece) const {
    return piece.source < 0
               ? tensor_.spec.dtype
               : tensor_.sources[static_cast<std::size_t>(piece.source)].tensor->spec.dtype;
  }

  /// Value-changing rules sum in the dtype of the source and cast afterwards
  /// (mapping-semantics 5.16). Padding stays zero.
  void make_shifted(std::int64_t begin, std::int64_t end, std::vector<std::byte>& window) {
    const DType from = tensor_.sources.front().tensor->spec.dtype;
    const auto size = static_cast<std::size_t>(bytes(from));
    shifted_.resize(static_cast<std::size_t>(end - begin) * size);
    for (const layout::BoxPiece& piece : pieces_) {
      if (piece.source >= 0) {
        copy_piece(isa_, piece, source_of(piece), shifted_.data(), begin, size);
      }
    }
    kinds::add_constant(shifted_, from, tensor_.add);
    kinds::cast(shifted_.data(), from, window.data(), tensor_.spec.dtype, end - begin);
    for (const layout::BoxPiece& piece : pieces_) {
      if (piece.source < 0) {
        cast_piece(isa_, piece, nullptr, tensor_.spec.dtype, window.data(), begin,
                   tensor_.spec.dtype);
      }
    }
  }

  const OutputTensor& tensor_;
  std::vector<layout::Box> boxes_;
  std::vector<std::span<const std::byte>> bytes_;
  std::vector<layout::BoxPiece> pieces_;
  const Isa isa_ = best_isa();
  std::vector<std::byte> shifted_;
};

/// Makes the tensor window by window: hands each to `sink` and returns the fingerprint of the
/// whole.
Result<std::string> make_tensor(
    const OutputTensor& tensor, ProgressSink* progress,
    const std::function<Status(std::uint64_t, std::span<const std::byte>)>& sink) {
  const std::int64_t elements = element_count(tensor.spec.shape).value();
  const std::int64_t size = bytes(tensor.spec.dtype);
  const std::int64_t step = std::max<std::int64_t>(1, kWindowBytes / size);
  WindowMaker maker(tensor);
  Digest hash;
  std::vector<std::byte> window;
  std::int64_t unreleased = 0;
  for (std::int64_t begin = 0; begin < elements; begin += step) {
    const std::int64_t end = std::min(elements, begin + step);
    maker.make(begin, end, window);
    hash.add(window);
    BV_CHECK(sink(static_cast<std::uint64_t>(begin * size), window));
    unreleased += (end - begin) * size;
    if (unreleased >= kReleaseBytes) {
      maker.release();
      unreleased = 0;
    }
    if (progress != nullptr) {
      progress->advance(window.size(), end == elements ? 1 : 0, tensor.spec.name);
      if (progress->stop_requested()) {
        return fail(Code::Conflict, "stopped by the user")
            .advise("repeat with --resume to keep the finished files");
      }
    }
  }
  maker.release();
  return hash.hex();
}

Status open_if_first(OpenFile& file, const std::filesystem::path& path) {
  const std::lock_guard lock(file.mutex);
  if (file.pending) {
    return Done{};
  }
  BV_TRY(pending, io::PendingFile::create(path, file.plan.file_size));
  file.pending.emplace(std::move(pending));
  return file.pending->write_at(0, std::as_bytes(std::span(file.plan.header)));
}

/// Notes one finished tensor; the last one commits the file.
Status note_tensor(OpenFile& file, const std::string& tensor, std::string digest) {
  const std::lock_guard lock(file.mutex);
  file.digests[tensor] = std::move(digest);
  if (--file.left > 0) {
    return Done{};
  }
  BV_CHECK(file.pending->commit());
  file.pending.reset();
  return Done{};
}

/// Sources must be the ones that were planned with, to the last byte.
Status sources_unchanged(const std::vector<OutputFile>& files) {
  std::set<const io::Checkpoint*> seen;
  for (const OutputFile& file : files) {
    for (const OutputTensor& tensor : file.tensors) {
      for (const SourceTensor& source : tensor.sources) {
        if (seen.insert(source.checkpoint).second) {
          BV_CHECK(source.checkpoint->unchanged());
        }
      }
    }
  }
  return Done{};
}

/// Fingerprints of every tensor of a finished file, read from the disk's side.
Result<std::map<std::string, std::string>> digests_of(const std::filesystem::path& path) {
  BV_TRY(checkpoint, io::Checkpoint::open(path));
  std::map<std::string, std::string> out;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    Digest hash;
    const auto whole = checkpoint.bytes(stored);
    for (std::size_t at = 0; at < whole.size(); at += static_cast<std::size_t>(kReleaseBytes)) {
      const auto part =
          whole.subspan(at, std::min(whole.size() - at, static_cast<std::size_t>(kReleaseBytes)));
      hash.add(part);
      checkpoint.release(part);
    }
    out[name] = hash.hex();
  }
  return out;
}

/// Is the finished file of an interrupted run what this run would write, byte for byte?
Result<bool> is_right(const std::filesystem::path& path, const OutputFile& file,
                      const io::SafetensorsPlan& plan,
                      std::map<std::string, std::string>& digests) {
  auto found = digests_of(path);
  if (!found) {
    return false;
  }
  for (const OutputTensor& tensor : file.tensors) {
    BV_TRY(wanted,
           make_tensor(tensor, nullptr,
                       [](std::uint64_t, std::span<const std::byte>) -> Status { return Done{}; }));
    const auto there = found->find(tensor.spec.name);
    if (there == found->end() || there->second != wanted) {
      return false;
    }
  }
  std::string start(plan.header.size(), '\0');
  std::ifstream in(path, std::ios::binary);
  in.read(start.data(), static_cast<std::streamsize>(start.size()));
  digests = std::move(*found);
  return in.good() && start == plan.header && digests.size() == file.tensors.size();
}

}  // namespace

std::set<std::string> names_of(const std::vector<OutputFile>& files) {
  std::set<std::string> out;
  for (const OutputFile& file : files) {
    out.insert(file.name);
  }
  return out;
}

Status for_each_parallel(std::size_t count, int jobs,
                         const std::function<Status(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::map<std::size_t, Error> errors;
  const auto loop = [&] {
    for (std::size_t i = next++; i < count && !failed; i = next++) {
      if (auto status = work(i); !status) {
        failed = true;
        const std::lock_guard lock(mutex);
        errors.emplace(i, std::move(status).error());
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < jobs; ++i) {
    threads.emplace_back(loop);
  }
  loop();
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (!errors.empty()) {
    return errors.begin()->second;
  }
  return Done{};
}

Result<Digests> write_files(const std::filesystem::path& folder,
                            const std::vector<OutputFile>& files, const StreamOptions& options) {
  std::vector<OpenFile> open(files.size());
  std::vector<Task> tasks;
  std::uint64_t total = 0;
  for (std::size_t f = 0; f < files.size(); ++f) {
    std::vector<TensorSpec> specs;
    std::map<std::string, std::size_t> by_name;
    for (std::size_t i = 0; i < files[f].tensors.size(); ++i) {
      specs.push_back(files[f].tensors[i].spec);
      by_name[files[f].tensors[i].spec.name] = i;
    }
    BV_TRY(plan, io::plan_safetensors(std::move(specs), files[f].metadata));
    open[f].plan = std::move(plan);
    const std::filesystem::path path = folder / files[f].name;
    std::error_code ignored;
    if (options.resume && std::filesystem::exists(path, ignored)) {
      BV_TRY(right, is_right(path, files[f], open[f].plan, open[f].digests));
      if (right) {
        continue;
      }
      std::filesystem::remove(path, ignored);
      open[f].digests.clear();
    }
    open[f].left = open[f].plan.tensors.size();
    for (std::size_t i = 0; i < open[f].plan.tensors.size(); ++i) {
      tasks.push_back({f, by_name.at(open[f].plan.tensors[i].name), open[f].plan.offsets[i]});
    }
    total += open[f].plan.file_size;
    if (open[f].left == 0) {  // a stage can hold nothing
      BV_CHECK(open_if_first(open[f], path));
      BV_CHECK(open[f].pending->commit());
      open[f].pending.reset();
    }
  }
  if (options.progress != nullptr) {
    options.progress->start("bytes", total, tasks.size());
  }
  auto written = for_each_parallel(tasks.size(), options.jobs, [&](std::size_t i) -> Status {
    const Task& task = tasks[i];
    OpenFile& file = open[task.file];
    BV_CHECK(open_if_first(file, folder / files[task.file].name));
    const OutputTensor& tensor = files[task.file].tensors[task.tensor];
    BV_TRY(digest, make_tensor(tensor, options.progress,
                               [&](std::uint64_t at, std::span<const std::byte> window) {
                                 return file.pending->write_at(task.offset + at, window);
                               }));
    return note_tensor(file, tensor.spec.name, std::move(digest));
  });
  BV_CHECK(std::move(written));
  BV_CHECK(sources_unchanged(files));
  Digests digests;
  for (std::size_t f = 0; f < files.size(); ++f) {
    digests[files[f].name] = std::move(open[f].digests);
  }
  return digests;
}

Status verify_files(const std::filesystem::path& folder, const Digests& digests, int jobs) {
  std::vector<std::pair<std::string, const std::map<std::string, std::string>*>> list;
  for (const auto& [name, tensors] : digests) {
    list.emplace_back(name, &tensors);
  }
  return for_each_parallel(list.size(), jobs, [&](std::size_t i) -> Status {
    BV_TRY(found, digests_of(folder / list[i].first));
    for (const auto& [tensor, wanted] : *list[i].second) {
      const auto there = found.find(tensor);
      if (there == found.end() || there->second != wanted) {
        return fail(Code::WriteLost,
                    fmt::format("{} in {} is not what was written", tensor, list[i].first))
            .pair(there == found.end() ? "no such tensor" : there->second, wanted)
            .advise(
                "the disk or the page cache lost a write: check the machine, then convert again");
      }
    }
    return Done{};
  });
}

}  // namespace bv::exec
