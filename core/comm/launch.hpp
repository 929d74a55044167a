#pragma once
// Which world a process was started in, by the variables of its launcher.

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/comm/rendezvous.hpp"

namespace bv::comm {

/// The value of a variable, "" when unset.
using Variable = std::function<std::string(std::string_view)>;

/// The innermost launcher: torchrun (WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT), else mpirun (Open
/// MPI, MPICH, Intel MPI), whose daemons a step of SLURM may have started, else the step. A shell
/// inside an allocation is no world, nor is a world of one process. Where no address is given it is
/// the first node of the step, or this host when all processes are on it. A run that neither its
/// launcher nor MASTER_PORT names, all on this host, is told apart by `command`: what this process
/// was told to do. Errors: BadValue for variables that contradict each other or leave a question.
[[nodiscard]] Result<std::optional<Launch>> launch_from(const Variable& variable,
                                                        std::string_view command = "");

/// "env -u WORLD_SIZE bridge-verify ...": without these variables there is no world.
[[nodiscard]] std::string run_alone(const Variable& variable);

/// Place of this process among those of its host, and how many there are, as the launchers say it;
/// 0 and 1 when none does.
[[nodiscard]] std::int64_t place_on_host(const Variable& variable);
[[nodiscard]] std::int64_t processes_on_host(const Variable& variable);

/// The GPU of the process at that place, of `count` that it sees: a launcher may show each process
/// those that are its own alone, counted from 0.
[[nodiscard]] int device_of(std::int64_t place, std::int64_t count);

/// "gpu[003-007,9]-ib,login" -> "gpu003-ib"; the first host of a list as SLURM writes it.
[[nodiscard]] std::string first_host(std::string_view node_list);

}  // namespace bv::comm
