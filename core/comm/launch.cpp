#include "core/comm/launch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "core/base/text.hpp"

namespace bv::comm {
namespace {

constexpr std::int64_t kRanksMax = 4096;  // every two of them have a connection
constexpr int kFirstPort = 20000;
constexpr int kPorts = 20000;
constexpr int kUsualPort = 29500;  // of torchrun

/// One launcher's names for the same things.
struct Names {
  std::string_view launcher, size, rank;
};
constexpr std::array kLaunchers = {
    Names{"torchrun", "WORLD_SIZE", "RANK"},
    Names{"srun", "SLURM_NTASKS", "SLURM_PROCID"},
    Names{"mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
    Names{"mpirun", "PMI_SIZE", "PMI_RANK"},
};

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t out = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return read.ec == std::errc() && read.ptr == text.data() + text.size() ? std::optional(out)
                                                                         : std::nullopt;
}

/// A number in least..most. Errors: BadValue naming the variable.
Result<std::int64_t> number_of(const Variable& variable, std::string_view name, std::int64_t least,
                               std::int64_t most) {
  const std::string text = variable(name);
  const auto out = number(text);
  if (!out || *out < least || *out > most) {
    return fail(Code::BadValue, text.empty() ? fmt::format("{} is not set", name)
                                             : fmt::format("{}={} is not a number from {} to {}",
                                                           name, readable(text), least, most))
        .pair(text.empty() ? "nothing" : readable(text), fmt::format("{} to {}", least, most))
        .advise(
            "start with torchrun, srun or mpirun; to run alone: env -u WORLD_SIZE -u "
            "SLURM_NTASKS bridge-verify ...");
  }
  return *out;
}

/// The launcher that started this process.
const Names* launcher_of(const Variable& variable) {
  for (const Names& one : kLaunchers) {
    if (variable(one.size).empty()) {
      continue;
    }
    // SLURM sets its variables for the whole allocation: only in a step srun has started one
    // process a task.
    if (one.launcher != "srun" || !variable("SLURM_STEP_NODELIST").empty()) {
      return &one;
    }
  }
  return nullptr;
}

/// A port that all processes of one run compute alike.
int port_of_run(std::string_view run) {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const char one : run) {
    hash = (hash ^ static_cast<unsigned char>(one)) * 1099511628211U;
  }
  return kFirstPort + static_cast<int>(hash % kPorts);
}

std::string run_of(const Variable& variable) {
  // Users give one name to many runs; the store of each has a port of its own.
  if (const std::string value = variable("TORCHELASTIC_RUN_ID"); !value.empty()) {
    return value + ":" + variable("MASTER_PORT");
  }
  for (const std::string_view name : {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID"}) {
    if (const std::string value = variable(name); !value.empty()) {
      return std::string(value);
    }
  }
  const std::string job = variable("SLURM_JOB_ID");
  return job.empty() ? "" : job + "." + variable("SLURM_STEP_ID");
}

/// Where rank 0 is when MASTER_ADDR does not say it.
Result<std::string> address_of(const Variable& variable, const Names& names, std::int64_t size) {
  if (const std::string address = variable("MASTER_ADDR"); !address.empty()) {
    return address;
  }
  if (names.launcher == "srun") {
    return first_host(variable("SLURM_STEP_NODELIST"));
  }
  for (const std::string_view local : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}) {
    if (number(variable(local)) == size) {
      return std::string("127.0.0.1");
    }
  }
  return fail(Code::BadValue, fmt::format("{} processes of {}, and nobody says where rank 0 is",
                                          size, names.launcher))
      .pair("no MASTER_ADDR", "the host of rank 0")
      .advise("set MASTER_ADDR for all processes: mpirun -x MASTER_ADDR=HOST ...");
}

}  // namespace

std::string first_host(std::string_view list) {
  const std::size_t open = list.find('[');
  const std::size_t comma = list.find(',');
  if (open == std::string_view::npos || comma < open) {
    return std::string(list.substr(0, comma));
  }
  const std::size_t close = std::min(list.find(']', open), list.size());
  const std::string_view inside = list.substr(open + 1, close - open - 1);
  const std::string_view number = inside.substr(0, inside.find_first_of(",-"));
  const std::string_view behind = list.substr(std::min(close + 1, list.size()));
  return std::string(list.substr(0, open)) + std::string(number) +
         first_host(behind.substr(0, behind.find(',')));
}

Result<std::optional<Launch>> launch_from(const Variable& variable) {
  const Names* names = launcher_of(variable);
  if (names == nullptr) {
    return std::optional<Launch>();
  }
  BV_TRY(size, number_of(variable, names->size, 1, kRanksMax));
  if (size == 1) {
    return std::optional<Launch>();
  }
  BV_TRY(rank, number_of(variable, names->rank, 0, size - 1));
  BV_TRY(address, address_of(variable, *names, size));
  Launch out;
  out.size = static_cast<int>(size);
  out.rank = static_cast<int>(rank);
  out.address = address;
  out.run = run_of(variable);
  out.port = out.run.empty() ? kUsualPort : port_of_run(out.run);
  if (!variable("MASTER_PORT").empty()) {
    BV_TRY(port, number_of(variable, "MASTER_PORT", 1, 65535 - kPortsTried));
    out.port = static_cast<int>(port);
  }
  out.port_is_taken = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  return std::optional(out);
}

}  // namespace bv::comm
