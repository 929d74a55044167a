#include "core/convert/shared_output.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <map>
#include <random>

#include "core/comm/agree.hpp"
#include "core/comm/shares.hpp"
#include "core/io/digest.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

std::vector<std::string> as_texts(const io::Digests& digests) {
  std::vector<std::string> out;
  for (const auto& [file, tensors] : digests) {
    for (const auto& [tensor, digest] : tensors) {
      out.insert(out.end(), {file, tensor, digest});
    }
    if (tensors.empty()) {
      out.insert(out.end(), {file, "", ""});
    }
  }
  return out;
}

io::Digests from_texts(const std::vector<std::vector<std::string>>& of_ranks) {
  io::Digests out;
  for (const std::vector<std::string>& texts : of_ranks) {
    for (std::size_t i = 0; i + 3 <= texts.size(); i += 3) {
      auto& tensors = out[texts[i]];
      if (!texts[i + 2].empty()) {
        tensors[texts[i + 1]] = texts[i + 2];
      }
    }
  }
  return out;
}

/// A file of this run alone: the folder of a run that was killed may lie under the same name on
/// another disk. Who resumes knows it as something unfinished.
Result<fs::path> make_sign(const fs::path& partial) {
  std::random_device random;
  const fs::path sign = partial / fmt::format("{}{:08x}{:08x}{:08x}{:08x}", io::kUnfinishedFile,
                                              random(), random(), random(), random());
  errno = 0;
  if (!std::ofstream(sign)) {
    return io::system_fault(errno, "creating a file in", partial, Code::WriteLost);
  }
  return sign;
}

/// Another host may have another disk under the same name. All ask together: where the world has
/// failed meanwhile, that is the error, and not the folder that went with it.
Status all_see_sign(comm::Link& world, const fs::path& sign) {
  std::error_code ignored;
  const std::string seen = fs::exists(sign, ignored) ? "yes" : "no";
  auto all = comm::exchanged(world, {&seen, 1}, "who sees the output folder");
  if (world.rank() == 0) {
    fs::remove(sign, ignored);
  }
  if (!all) {
    return std::move(all).error();
  }
  for (std::size_t rank = 0; rank < all->size(); ++rank) {
    if ((*all)[rank] != std::vector<std::string>{"yes"}) {
      return fail(Code::OutputPlace, fmt::format("{} does not see the folder that rank 0 has made",
                                                 world.name_of(static_cast<int>(rank))))
          .at(io::printable_path(sign.parent_path()))
          .advise("give an --out that all hosts share");
    }
  }
  return Done{};
}

/// The sources of all files, and the processes that read them. Order and content are those of the
/// files, and so equal on all processes.
std::vector<comm::ReadTensor> readings(const std::vector<OutputFile>& files,
                                       const std::vector<int>& processes) {
  std::vector<comm::ReadTensor> out;
  std::map<const TensorSpec*, std::size_t> place;
  for (std::size_t i = 0; i < files.size(); ++i) {
    for (const OutputTensor& tensor : files[i].tensors) {
      for (const checkpoint::SourceTensor& source : tensor.sources) {
        const auto [at, is_new] = place.try_emplace(source.spec, out.size());
        if (is_new) {
          out.push_back({source, {}});
        }
        out[at->second].ranks.insert(processes[i]);
      }
    }
  }
  return out;
}

/// Copies of a model on other hosts may be cut into other files, or say something else beside their
/// tensors: then each process would write files of another output.
Status agree_on_files(comm::Link& world, const std::vector<OutputFile>& files,
                      const std::vector<io::SafetensorsPlan>& plans) {
  io::Digest tensors;
  io::Digest headers;
  for (std::size_t i = 0; i < files.size(); ++i) {
    tensors.add(files[i].name + '\n');
    for (const TensorSpec& tensor : plans[i].tensors) {
      tensors.add(tensor.name + '\n');
    }
    headers.add(plans[i].header);
  }
  return comm::agree_on_facts(
      world, std::vector<comm::Fact>{{"division of the tensors into files", tensors.hex()},
                                     {"text in the headers of its files", headers.hex()}});
}

Result<std::uint64_t> sum_over(comm::Link& world, std::uint64_t own) {
  const std::string text = std::to_string(own);
  BV_TRY(all, comm::exchanged(world, {&text, 1}, "bytes to be written"));
  std::uint64_t out = 0;
  for (const std::vector<std::string>& one : all) {
    std::uint64_t bytes = 0;
    const std::string& said = one.empty() ? text : one.front();
    std::from_chars(said.data(), said.data() + said.size(), bytes);
    out += bytes;
  }
  return out;
}

}  // namespace

Result<SharedOutput> SharedOutput::create(io::OutputRequest request,
                                          const std::set<std::string>& files, comm::Link* world) {
  SharedOutput out;
  out.world_ = world;
  if (out.is_host()) {
    BV_TRY(folder, io::OutputFolder::create(std::move(request)));
    BV_CHECK(folder.keep_only(files));
    out.partial_ = folder.partial();
    out.folder_.emplace(std::move(folder));
  }
  if (world != nullptr) {
    fs::path sign;
    if (out.is_host()) {
      BV_TRY(made, make_sign(out.partial_));
      sign = std::move(made);
    }
    BV_TRY(path, comm::whole_world(*world).broadcast(0, comm::bytes_of(sign.string()),
                                                     "the output folder"));
    sign = comm::text_of(path);
    out.partial_ = sign.parent_path();
    BV_CHECK(all_see_sign(*world, sign));
  }
  return out;
}

std::vector<int> SharedOutput::balanced(const std::vector<io::SafetensorsPlan>& plans) const {
  std::vector<std::uint64_t> sizes;
  for (const io::SafetensorsPlan& plan : plans) {
    sizes.push_back(plan.file_size);
  }
  return comm::balanced(sizes, world_ == nullptr ? 1 : world_->size());
}

Result<io::Digests> SharedOutput::write(const std::vector<OutputFile>& files,
                                        std::vector<io::SafetensorsPlan> plans,
                                        const std::vector<int>& processes,
                                        const StreamOptions& given, bool verify) {
  StreamOptions options = given;
  if (world_ != nullptr) {
    BV_CHECK(agree_on_files(*world_, files, plans));
    options.need_of_all = [this](std::uint64_t own) { return sum_over(*world_, own); };
  }
  std::vector<OutputFile> mine;
  std::vector<io::SafetensorsPlan> plans_of_mine;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (world_ == nullptr || processes[i] == world_->rank()) {
      mine.push_back(files[i]);
      plans_of_mine.push_back(std::move(plans[i]));
    }
  }
  if (world_ != nullptr) {
    BV_CHECK(comm::agree_on_contents(*world_, readings(files, processes), options.jobs,
                                     options.progress));
    world_->work_untold(false);
  }
  auto digests = write_files(partial_, mine, std::move(plans_of_mine), options);
  if (world_ != nullptr) {
    world_->work_untold(true);
  }
  BV_CHECK(digests);
  if (verify) {
    BV_CHECK(verify_files(partial_, *digests, options.jobs));
  }
  if (world_ == nullptr) {
    return digests;
  }
  BV_TRY(all, comm::exchanged(*world_, as_texts(*digests), "fingerprints of the written files"));
  return from_texts(all);
}

Status SharedOutput::finish(const std::set<std::string>& files) {
  if (world_ != nullptr) {
    BV_CHECK(world_->all_done());
  }
  return folder_ ? folder_->finish(files) : Status(Done{});
}

void SharedOutput::abandon() {
  if (folder_) {
    folder_->abandon();
  }
}

Result<bool> told_by_host(comm::Link* world, bool mine, std::string_view what) {
  if (world == nullptr) {
    return mine;
  }
  BV_TRY(told, comm::whole_world(*world).broadcast(0, comm::bytes_of(mine ? "yes" : "no"), what));
  return comm::text_of(told) == "yes";
}

}  // namespace bv::convert
