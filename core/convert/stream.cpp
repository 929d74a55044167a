#include "core/convert/stream.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <thread>

#include "core/base/arith.hpp"
#include "core/base/workers.hpp"
#include "core/convert/open_output.hpp"
#include "core/convert/read_back.hpp"
#include "core/convert/spent_pages.hpp"
#include "core/convert/window_maker.hpp"
#include "core/io/digest.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {
namespace {

/// So many files, at most, are written at once, and so many tensors in step. Never more than half
/// of them: the others are finished or not begun when a run is interrupted.
constexpr std::size_t kFilesMax = 64;

/// One output file while it is written.
struct OpenFile {
  std::mutex mutex;
  io::SafetensorsPlan plan;
  std::optional<OpenOutput> output;
  std::size_t left = 0;
  bool is_kept = false;  // of an interrupted run, and right
  std::map<std::string, std::string> digests;
  std::optional<std::string> print;  // of all bytes
};

struct Place {
  std::size_t file = 0;
  std::size_t tensor = 0;    // index into OutputFile::tensors
  std::uint64_t offset = 0;  // in the file
};
/// Tensors of several files that are made of the same sources, in step: their bytes pass once.
using Task = std::vector<Place>;

WindowEnds window_ends(std::span<const WindowMaker> makers, const OutputTensor& first,
                       const WindowSizes& sizes, std::uint64_t file_offset) {
  const ElementWidth width(first.spec.dtype);
  if (makers.front().is_transposed()) {  // whole rows
    return {makers.front().window_bytes(sizes.bytes), first.granule, 0, width};
  }
  const auto ways = static_cast<std::int64_t>(makers.size());
  const std::int64_t least = std::max(sizes.least_bytes, sizes.bytes * 2 / (ways + 1));
  return {static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(least))),
          first.granule, static_cast<std::int64_t>(file_offset), width};
}

/// What tensors are made with.
struct Making {
  const WindowSizes& sizes;
  SpentPages& spent;
  ProgressSink* progress = nullptr;
};

/// Makes tensors of one size and the same sources window by window, in step.
Status make_in_step(std::span<WindowMaker> makers, const OutputTensor& first,
                    std::uint64_t file_offset, const Making& making) {
  const WindowSizes& sizes = making.sizes;
  ProgressSink* progress = making.progress;
  const ElementOffset elements(element_count(first.spec.shape).value());
  const ElementWidth width(first.spec.dtype);
  const auto ways = static_cast<std::int64_t>(makers.size());
  const WindowEnds ends = window_ends(makers, first, sizes, file_offset);
  if (makers.size() > 1) {
    makers.front().lead();
  }
  std::int64_t unreleased = 0;
  for (ElementOffset begin, end; begin < elements; begin = end) {
    end = std::min(elements, ends.after(begin));
    const ByteOffset made = width.to_bytes(end - begin);
    for (WindowMaker& maker : makers) {
      BV_CHECK(maker.make(begin, end));
      if (progress != nullptr) {
        progress->advance(made.size(), end == elements ? 1 : 0, first.spec.name);
        if (progress->stop_requested()) {
          return fail(Code::Stopped, "stopped before the end")
              .advise("repeat with --resume to keep the finished files");
        }
      }
    }
    unreleased += ways * made.value;
    if (unreleased >= sizes.release_bytes) {
      makers.front().release();
      unreleased = 0;
    }
  }
  making.spent.add(first.sources, unreleased);
  return Done{};
}

/// In step, but one after another where axes change places: ranks then share no line of a source,
/// and pairs of rows that one rank reads twice are still in a cache.
Status make_tensors(std::vector<WindowMaker>& makers, const OutputTensor& first,
                    std::uint64_t file_offset, const Making& making) {
  if (!makers.front().is_transposed()) {
    return make_in_step(makers, first, file_offset, making);
  }
  for (WindowMaker& maker : makers) {
    BV_CHECK(make_in_step({&maker, 1}, first, file_offset, making));
  }
  return Done{};
}

Status open_if_first(OpenFile& file, const std::filesystem::path& path,
                     const StreamOptions& options) {
  const std::lock_guard lock(file.mutex);
  if (file.output) {
    return Done{};
  }
  using Print = OpenOutput::Print;
  BV_TRY(output, OpenOutput::create(
                     path, file.plan.file_size,
                     options.jobs == 1 ? OpenOutput::Writers::One : OpenOutput::Writers::Several,
                     options.whole_files == nullptr ? Print::None : Print::Whole));
  file.output.emplace(std::move(output));
  return file.output->write_at(0, std::as_bytes(std::span(file.plan.header)));
}

Status commit(OpenFile& file) {
  BV_CHECK(file.output->commit());
  file.print = file.output->print();
  file.output.reset();
  return Done{};
}

/// Notes one finished tensor; the last one commits the file.
Status note_tensor(OpenFile& file, const std::string& tensor, std::string digest) {
  const std::lock_guard lock(file.mutex);
  file.digests[tensor] = std::move(digest);
  if (--file.left > 0) {
    return Done{};
  }
  return commit(file);
}

/// What tensors that are made in step have in common: the sources, the size, and how many of their
/// file came before with the same ones (experts of one packed tensor are neighbours across files).
struct Likeness {
  std::vector<const TensorSpec*> sources;
  std::int64_t elements = 0;
  DType dtype = DType::F32;
  std::int64_t granule = 1;
  std::size_t before = 0;
  auto operator<=>(const Likeness&) const = default;
};

/// Tensors of neighbouring files that are made of the same sources, together; in the order of the
/// files. Sources of one tensor, and so nothing to share, stay alone.
std::vector<Task> tasks_of(const std::vector<OutputFile>& files, const std::vector<Place>& places) {
  std::vector<Task> out;
  std::map<Likeness, std::size_t> task_of;
  std::map<std::pair<std::size_t, Likeness>, std::size_t> seen;  // in one file
  const std::size_t block = std::clamp<std::size_t>(files.size() / 2, 1, kFilesMax);
  std::size_t block_begin = 0;
  for (const Place& place : places) {
    if (place.file >= block_begin + block) {
      block_begin = place.file;
      task_of.clear();
    }
    const OutputTensor& tensor = files[place.file].tensors[place.tensor];
    Likeness like;
    for (const checkpoint::SourceTensor& source : tensor.sources) {
      like.sources.push_back(source.spec);
    }
    like.elements = element_count(tensor.spec.shape).value();
    like.dtype = tensor.spec.dtype;
    like.granule = tensor.granule;
    like.before = seen[{place.file, like}]++;
    const auto [at, fresh] = task_of.try_emplace(std::move(like), out.size());
    if (fresh) {
      out.emplace_back();
    }
    out[at->second].push_back(place);
  }
  return out;
}

/// Sources must be the ones that were planned with, to the last byte.
Status sources_unchanged(const std::vector<OutputFile>& files) {
  std::set<const io::TensorStore*> seen;
  for (const OutputFile& file : files) {
    for (const OutputTensor& tensor : file.tensors) {
      for (const checkpoint::SourceTensor& source : tensor.sources) {
        if (seen.insert(source.store).second) {
          BV_CHECK(source.store->unchanged());
        }
      }
    }
  }
  return Done{};
}

/// Is the finished file of an interrupted run what this run would write, byte for byte?
Result<bool> is_right(const std::filesystem::path& path, const OutputFile& file,
                      const io::SafetensorsPlan& plan, const WindowSizes& sizes,
                      std::map<std::string, std::string>& digests) {
  auto found = digests_of_file(path);
  if (!found) {
    return false;
  }
  SpentPages spent(sizes.release_bytes);
  for (const OutputTensor& tensor : file.tensors) {
    std::vector<WindowMaker> makers;
    makers.emplace_back(tensor,
                        [](ByteOffset, std::span<const std::byte>) -> Status { return Done{}; });
    BV_CHECK(make_tensors(makers, tensor, 0, {sizes, spent}));
    const auto there = found->find(tensor.spec.name);
    if (there == found->end() || there->second != makers.front().digest()) {
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

Result<std::vector<io::SafetensorsPlan>> plan_files(const std::vector<OutputFile>& files) {
  std::vector<io::SafetensorsPlan> out;
  for (const OutputFile& file : files) {
    std::vector<TensorSpec> specs;
    for (const OutputTensor& tensor : file.tensors) {
      specs.push_back(tensor.spec);
    }
    BV_TRY(plan, io::plan_safetensors(std::move(specs), file.metadata));
    out.push_back(std::move(plan));
  }
  return out;
}

io::KnownFiles known_files(const std::vector<OutputFile>& files,
                           const std::vector<io::SafetensorsPlan>& plans) {
  io::KnownFiles out;
  for (std::size_t f = 0; f < files.size(); ++f) {
    out[files[f].name] = {plans[f].file_size, plans[f].header, ""};
  }
  return out;
}

namespace {

/// What is to be done with files that are opened one after another.
struct Work {
  std::vector<OpenFile> open;
  std::vector<Place> places;
  std::uint64_t bytes = 0;
};

/// Keeps the finished files of an interrupted run that are right, and lists the places of all
/// others.
Result<Work> plan_work(const std::filesystem::path& folder, const std::vector<OutputFile>& files,
                       std::vector<io::SafetensorsPlan> plans, const StreamOptions& options) {
  Work out;
  out.open = std::vector<OpenFile>(files.size());
  for (std::size_t f = 0; f < files.size(); ++f) {
    OpenFile& file = out.open[f];
    file.plan = std::move(plans[f]);
    const std::filesystem::path path = folder / files[f].name;
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    const auto there = std::filesystem::symlink_status(path, error);
    if (options.resume && std::filesystem::is_symlink(there)) {  // our files are none: never kept
      std::filesystem::remove(path, error);
    } else if (options.resume && std::filesystem::exists(there)) {
      BV_TRY(right, is_right(path, files[f], file.plan, options.windows, file.digests));
      file.is_kept = right;
      if (right) {
        continue;
      }
      std::filesystem::remove(path, error);
      file.digests.clear();
    }
    std::map<std::string_view, std::size_t> by_name;
    for (std::size_t i = 0; i < files[f].tensors.size(); ++i) {
      by_name[files[f].tensors[i].spec.name] = i;
    }
    file.left = file.plan.tensors.size();
    for (std::size_t i = 0; i < file.plan.tensors.size(); ++i) {
      out.places.push_back({f, by_name.at(file.plan.tensors[i].name), file.plan.offsets[i]});
    }
    out.bytes += file.plan.file_size;
  }
  return out;
}

}  // namespace

Result<io::Digests> write_files(const std::filesystem::path& folder,
                                const std::vector<OutputFile>& files,
                                std::vector<io::SafetensorsPlan> plans,
                                const StreamOptions& options) {
  BV_TRY(work, plan_work(folder, files, std::move(plans), options));
  std::vector<OpenFile>& open = work.open;
  std::uint64_t need = work.bytes;
  if (options.need_of_all) {
    BV_TRY(all, options.need_of_all(need));
    need = all;
  }
  BV_CHECK(io::check_room_for(folder, need + options.more_bytes));
  for (std::size_t f = 0; f < files.size(); ++f) {
    if (open[f].plan.tensors.empty() && !open[f].is_kept) {  // a stage can hold nothing
      BV_CHECK(open_if_first(open[f], folder / files[f].name, options));
      BV_CHECK(commit(open[f]));
    }
  }
  if (options.progress != nullptr) {
    options.progress->start("bytes", work.bytes, work.places.size());
  }
  const std::vector<Task> tasks = tasks_of(files, work.places);
  move::WindowPool windows;
  const WindowSizes& sizes = options.device == nullptr ? options.windows : kDeviceWindows;
  SpentPages spent(sizes.release_bytes);
  auto written = for_each_parallel(tasks.size(), options.jobs, [&](std::size_t i) -> Status {
    const move::WindowPool::Lease lease(windows);
    std::vector<WindowMaker> makers;
    for (const Place& place : tasks[i]) {
      OpenFile& file = open[place.file];
      BV_CHECK(open_if_first(file, folder / files[place.file].name, options));
      makers.emplace_back(
          files[place.file].tensors[place.tensor],
          [&file, place](ByteOffset at, std::span<const std::byte> window) {
            return file.output->write_at(place.offset + at.size(), window);
          },
          options.device, Fingerprint::Made, &lease.buffer());
    }
    if (options.sources != nullptr) {
      makers.front().print_sources(*options.sources);
    }
    const auto tensor_of = [&](const Place& place) -> const OutputTensor& {
      return files[place.file].tensors[place.tensor];
    };
    BV_CHECK(make_tensors(makers, tensor_of(tasks[i].front()), tasks[i].front().offset,
                          {sizes, spent, options.progress}));
    for (std::size_t k = 0; k < makers.size(); ++k) {
      const Place& place = tasks[i][k];
      BV_CHECK(note_tensor(open[place.file], tensor_of(place).spec.name, makers[k].digest()));
    }
    return Done{};
  });
  BV_CHECK(std::move(written));
  BV_CHECK(sources_unchanged(files));
  io::Digests digests;
  for (std::size_t f = 0; f < files.size(); ++f) {
    digests[files[f].name] = std::move(open[f].digests);
    if (options.whole_files != nullptr && open[f].print) {
      (*options.whole_files)[files[f].name] = *open[f].print;
    }
  }
  return digests;
}

}  // namespace bv::convert
