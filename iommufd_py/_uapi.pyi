# SPDX-License-Identifier: MIT
# Written by `python -m cffi_build.stub`; a test compares.
from typing import Any, Literal, Self, overload

class _Struct:
    def __getitem__(self, index: int, /) -> Self: ...

class iommu_destroy(_Struct):
    size: int
    id: int

class iommu_fault_alloc(_Struct):
    size: int
    flags: int
    out_fault_id: int
    out_fault_fd: int

class iommu_hw_info(_Struct):
    size: int
    flags: int
    dev_id: int
    data_len: int
    data_uptr: int
    in_data_type: int
    out_data_type: int
    out_max_pasid_log2: int
    __reserved: Any
    out_capabilities: int

class iommu_hw_info_amd(_Struct):
    efr: int
    efr2: int

class iommu_hw_info_arm_smmuv3(_Struct):
    flags: int
    __reserved: int
    idr: Any
    iidr: int
    aidr: int

class iommu_hw_info_tegra241_cmdqv(_Struct):
    flags: int
    version: int
    log2vcmdqs: int
    log2vsids: int
    __reserved: int

class iommu_hw_info_vtd(_Struct):
    flags: int
    __reserved: int
    cap_reg: int
    ecap_reg: int

class iommu_hw_queue_alloc(_Struct):
    size: int
    flags: int
    viommu_id: int
    type: int
    index: int
    out_hw_queue_id: int
    nesting_parent_iova: int
    length: int

class iommu_hwpt_alloc(_Struct):
    size: int
    flags: int
    dev_id: int
    pt_id: int
    out_hwpt_id: int
    __reserved: int
    data_type: int
    data_len: int
    data_uptr: int
    fault_id: int
    __reserved2: int

class iommu_hwpt_amd_guest(_Struct):
    dte: Any

class iommu_hwpt_arm_smmuv3(_Struct):
    ste: Any

class iommu_hwpt_get_dirty_bitmap(_Struct):
    size: int
    hwpt_id: int
    flags: int
    __reserved: int
    iova: int
    length: int
    page_size: int
    data: int

class iommu_hwpt_invalidate(_Struct):
    size: int
    hwpt_id: int
    data_uptr: int
    data_type: int
    entry_len: int
    entry_num: int
    __reserved: int

class iommu_hwpt_invalidate_selftest(_Struct):
    flags: int
    iotlb_id: int

class iommu_hwpt_page_response(_Struct):
    cookie: int
    code: int

class iommu_hwpt_pgfault(_Struct):
    flags: int
    dev_id: int
    pasid: int
    grpid: int
    perm: int
    __reserved: int
    addr: int
    length: int
    cookie: int

class iommu_hwpt_selftest(_Struct):
    iotlb: int
    pagetable_type: int

class iommu_hwpt_set_dirty_tracking(_Struct):
    size: int
    flags: int
    hwpt_id: int
    __reserved: int

class iommu_hwpt_vtd_s1(_Struct):
    flags: int
    pgtbl_addr: int
    addr_width: int
    __reserved: int

class iommu_hwpt_vtd_s1_invalidate(_Struct):
    addr: int
    npages: int
    flags: int
    __reserved: int

class iommu_ioas_alloc(_Struct):
    size: int
    flags: int
    out_ioas_id: int

class iommu_ioas_allow_iovas(_Struct):
    size: int
    ioas_id: int
    num_iovas: int
    __reserved: int
    allowed_iovas: int

class iommu_ioas_change_process(_Struct):
    size: int
    __reserved: int

class iommu_ioas_copy(_Struct):
    size: int
    flags: int
    dst_ioas_id: int
    src_ioas_id: int
    length: int
    dst_iova: int
    src_iova: int

class iommu_ioas_iova_ranges(_Struct):
    size: int
    ioas_id: int
    num_iovas: int
    __reserved: int
    allowed_iovas: int
    out_iova_alignment: int

class iommu_ioas_map(_Struct):
    size: int
    flags: int
    ioas_id: int
    __reserved: int
    user_va: int
    length: int
    iova: int

class iommu_ioas_map_file(_Struct):
    size: int
    flags: int
    ioas_id: int
    fd: int
    start: int
    length: int
    iova: int

class iommu_ioas_noiommu_get_pa(_Struct):
    size: int
    flags: int
    ioas_id: int
    __reserved: int
    iova: int
    length: int
    out_phys: int

class iommu_ioas_unmap(_Struct):
    size: int
    ioas_id: int
    iova: int
    length: int

class iommu_iova_range(_Struct):
    start: int
    last: int

class iommu_option(_Struct):
    size: int
    option_id: int
    op: int
    __reserved: int
    object_id: int
    val64: int

class iommu_test_cmd(_Struct):
    size: int
    op: int
    id: int
    __reserved: int
    add_reserved: Any
    mock_domain: Any
    mock_domain_flags: Any
    mock_domain_replace: Any
    check_map: Any
    check_refs: Any
    create_access: Any
    destroy_access_pages: Any
    access_pages: Any
    access_rw: Any
    memory_limit: Any
    access_replace_ioas: Any
    dirty: Any
    check_iotlb: Any
    trigger_iopf: Any
    check_dev_cache: Any
    trigger_vevent: Any
    pasid_attach: Any
    pasid_replace: Any
    pasid_detach: Any
    pasid_check: Any
    dmabuf_get: Any
    dmabuf_revoke: Any
    cache_flush_count: Any
    last: int

class iommu_test_hw_info(_Struct):
    flags: int
    test_reg: int

class iommu_vdevice_alloc(_Struct):
    size: int
    viommu_id: int
    dev_id: int
    out_vdevice_id: int
    virt_id: int

class iommu_vevent_arm_smmuv3(_Struct):
    evt: Any

class iommu_vevent_tegra241_cmdqv(_Struct):
    lvcmdq_err_map: Any

class iommu_veventq_alloc(_Struct):
    size: int
    flags: int
    viommu_id: int
    type: int
    veventq_depth: int
    out_veventq_id: int
    out_veventq_fd: int
    __reserved: int

class iommu_vfio_ioas(_Struct):
    size: int
    ioas_id: int
    op: int
    __reserved: int

class iommu_viommu_alloc(_Struct):
    size: int
    flags: int
    type: int
    dev_id: int
    hwpt_id: int
    out_viommu_id: int
    data_len: int
    __reserved: int
    data_uptr: int

class iommu_viommu_arm_smmuv3_invalidate(_Struct):
    cmd: Any

class iommu_viommu_event_selftest(_Struct):
    virt_id: int

class iommu_viommu_invalidate_selftest(_Struct):
    flags: int
    vdev_id: int
    cache_id: int

class iommu_viommu_selftest(_Struct):
    in_data: int
    out_data: int
    out_mmap_offset: int
    out_mmap_length: int

class iommu_viommu_tegra241_cmdqv(_Struct):
    out_vintf_mmap_offset: int
    out_vintf_mmap_length: int

class iommufd_bench_loop(_Struct):
    steps: Any
    buffer: Any
    buffer_bytes: int
    places: int
    gate: Any
    patience_ns: int
    step_count: int
    cache: int
    rounds: int
    switches: int
    faults: int
    failed_step: int

class iommufd_bench_move(_Struct):
    offset: int
    per_call: int
    per_round: int

class iommufd_bench_step(_Struct):
    request: int
    argument: Any
    issued: Any
    argument_bytes: int
    id_from: Any
    id_offset: int
    moves: Any
    ns: Any
    disturbances: Any
    fastest: int
    calls: int
    fd: int

class iommufd_clock(_Struct):
    ns_per_tick: int
    start_ticks: int
    start_ns: int

class iommufd_copy(_Struct):
    to: Any
    bytes: int

class iommufd_step(_Struct):
    kind: int
    copies: int
    copy: Any
    fd: Any
    request: int
    arg: Any
    may_fail: bool

class iommufd_vevent_header(_Struct):
    flags: int
    sequence: int

class vfio_bitmap(_Struct):
    pgsize: int
    size: int
    data: Any

class vfio_device_attach_iommufd_pt(_Struct):
    argsz: int
    flags: int
    pt_id: int
    pasid: int

class vfio_device_bind_iommufd(_Struct):
    argsz: int
    flags: int
    iommufd: int
    out_devid: int
    token_uuid_ptr: int

class vfio_device_detach_iommufd_pt(_Struct):
    argsz: int
    flags: int
    pasid: int

class vfio_device_feature(_Struct):
    argsz: int
    flags: int
    data: Any

class vfio_device_feature_bus_master(_Struct):
    op: int

class vfio_device_feature_dma_buf(_Struct):
    region_index: int
    open_flags: int
    flags: int
    nr_ranges: int
    dma_ranges: Any

class vfio_device_feature_dma_logging_control(_Struct):
    page_size: int
    num_ranges: int
    __reserved: int
    ranges: int

class vfio_device_feature_dma_logging_range(_Struct):
    iova: int
    length: int

class vfio_device_feature_dma_logging_report(_Struct):
    iova: int
    length: int
    page_size: int
    bitmap: int

class vfio_device_feature_mig_data_size(_Struct):
    stop_copy_length: int

class vfio_device_feature_mig_state(_Struct):
    device_state: int
    data_fd: int

class vfio_device_feature_migration(_Struct):
    flags: int

class vfio_device_feature_zpci_err(_Struct):
    data: int

class vfio_device_info(_Struct):
    argsz: int
    flags: int
    num_regions: int
    num_irqs: int
    cap_offset: int
    pad: int

class vfio_device_info_cap_pci_atomic_comp(_Struct):
    header: vfio_info_cap_header
    flags: int
    reserved: int

class vfio_device_ioeventfd(_Struct):
    argsz: int
    flags: int
    offset: int
    data: int
    fd: int
    reserved: int

class vfio_device_low_power_entry_with_wakeup(_Struct):
    wakeup_eventfd: int
    reserved: int

class vfio_group_status(_Struct):
    argsz: int
    flags: int

class vfio_info_cap_header(_Struct):
    id: int
    version: int
    next: int

class vfio_iommu_type1_dirty_bitmap(_Struct):
    argsz: int
    flags: int
    data: Any

class vfio_iommu_type1_dirty_bitmap_get(_Struct):
    iova: int
    size: int
    bitmap: vfio_bitmap

class vfio_iommu_type1_dma_map(_Struct):
    argsz: int
    flags: int
    vaddr: int
    iova: int
    size: int

class vfio_iommu_type1_dma_unmap(_Struct):
    argsz: int
    flags: int
    iova: int
    size: int
    data: Any

class vfio_iommu_type1_info(_Struct):
    argsz: int
    flags: int
    iova_pgsizes: int
    cap_offset: int
    pad: int

class vfio_iommu_type1_info_cap_iova_range(_Struct):
    header: vfio_info_cap_header
    nr_iovas: int
    reserved: int
    iova_ranges: Any

class vfio_iommu_type1_info_cap_migration(_Struct):
    header: vfio_info_cap_header
    flags: int
    pgsize_bitmap: int
    max_dirty_bitmap_size: int

class vfio_iommu_type1_info_dma_avail(_Struct):
    header: vfio_info_cap_header
    avail: int

class vfio_iova_range(_Struct):
    start: int
    end: int

class vfio_irq_info(_Struct):
    argsz: int
    flags: int
    index: int
    count: int

class vfio_irq_set(_Struct):
    argsz: int
    flags: int
    index: int
    start: int
    count: int
    data: Any

class vfio_pci_dependent_device(_Struct):
    group_id: int
    devid: int
    segment: int
    bus: int
    devfn: int

class vfio_pci_hot_reset(_Struct):
    argsz: int
    flags: int
    count: int
    group_fds: Any

class vfio_pci_hot_reset_info(_Struct):
    argsz: int
    flags: int
    count: int
    devices: Any

class vfio_precopy_info(_Struct):
    argsz: int
    flags: int
    initial_bytes: int
    dirty_bytes: int

class vfio_region_dma_range(_Struct):
    offset: int
    length: int

class vfio_region_info(_Struct):
    argsz: int
    flags: int
    index: int
    cap_offset: int
    size: int
    offset: int

class vfio_region_info_cap_sparse_mmap(_Struct):
    header: vfio_info_cap_header
    nr_areas: int
    reserved: int
    areas: Any

class vfio_region_info_cap_type(_Struct):
    header: vfio_info_cap_header
    type: int
    subtype: int

class vfio_region_sparse_mmap_area(_Struct):
    offset: int
    size: int

class _Ffi:
    NULL: Any
    @overload
    def new(self, ctype: Literal["struct iommu_destroy *"], init: Any = None, /) -> iommu_destroy: ...
    @overload
    def new(self, ctype: Literal["struct iommu_fault_alloc *"], init: Any = None, /) -> iommu_fault_alloc: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hw_info *"], init: Any = None, /) -> iommu_hw_info: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hw_info_amd *"], init: Any = None, /) -> iommu_hw_info_amd: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_hw_info_arm_smmuv3 *"], init: Any = None, /
    ) -> iommu_hw_info_arm_smmuv3: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_hw_info_tegra241_cmdqv *"], init: Any = None, /
    ) -> iommu_hw_info_tegra241_cmdqv: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hw_info_vtd *"], init: Any = None, /) -> iommu_hw_info_vtd: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hw_queue_alloc *"], init: Any = None, /) -> iommu_hw_queue_alloc: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hwpt_alloc *"], init: Any = None, /) -> iommu_hwpt_alloc: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hwpt_amd_guest *"], init: Any = None, /) -> iommu_hwpt_amd_guest: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hwpt_arm_smmuv3 *"], init: Any = None, /) -> iommu_hwpt_arm_smmuv3: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_hwpt_get_dirty_bitmap *"], init: Any = None, /
    ) -> iommu_hwpt_get_dirty_bitmap: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hwpt_invalidate *"], init: Any = None, /) -> iommu_hwpt_invalidate: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_hwpt_invalidate_selftest *"], init: Any = None, /
    ) -> iommu_hwpt_invalidate_selftest: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_hwpt_page_response *"], init: Any = None, /
    ) -> iommu_hwpt_page_response: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hwpt_pgfault *"], init: Any = None, /) -> iommu_hwpt_pgfault: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hwpt_selftest *"], init: Any = None, /) -> iommu_hwpt_selftest: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_hwpt_set_dirty_tracking *"], init: Any = None, /
    ) -> iommu_hwpt_set_dirty_tracking: ...
    @overload
    def new(self, ctype: Literal["struct iommu_hwpt_vtd_s1 *"], init: Any = None, /) -> iommu_hwpt_vtd_s1: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_hwpt_vtd_s1_invalidate *"], init: Any = None, /
    ) -> iommu_hwpt_vtd_s1_invalidate: ...
    @overload
    def new(self, ctype: Literal["struct iommu_ioas_alloc *"], init: Any = None, /) -> iommu_ioas_alloc: ...
    @overload
    def new(self, ctype: Literal["struct iommu_ioas_allow_iovas *"], init: Any = None, /) -> iommu_ioas_allow_iovas: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_ioas_change_process *"], init: Any = None, /
    ) -> iommu_ioas_change_process: ...
    @overload
    def new(self, ctype: Literal["struct iommu_ioas_copy *"], init: Any = None, /) -> iommu_ioas_copy: ...
    @overload
    def new(self, ctype: Literal["struct iommu_ioas_iova_ranges *"], init: Any = None, /) -> iommu_ioas_iova_ranges: ...
    @overload
    def new(self, ctype: Literal["struct iommu_ioas_map *"], init: Any = None, /) -> iommu_ioas_map: ...
    @overload
    def new(self, ctype: Literal["struct iommu_ioas_map_file *"], init: Any = None, /) -> iommu_ioas_map_file: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_ioas_noiommu_get_pa *"], init: Any = None, /
    ) -> iommu_ioas_noiommu_get_pa: ...
    @overload
    def new(self, ctype: Literal["struct iommu_ioas_unmap *"], init: Any = None, /) -> iommu_ioas_unmap: ...
    @overload
    def new(self, ctype: Literal["struct iommu_iova_range *"], init: Any = None, /) -> iommu_iova_range: ...
    @overload
    def new(self, ctype: Literal["struct iommu_option *"], init: Any = None, /) -> iommu_option: ...
    @overload
    def new(self, ctype: Literal["struct iommu_test_cmd *"], init: Any = None, /) -> iommu_test_cmd: ...
    @overload
    def new(self, ctype: Literal["struct iommu_test_hw_info *"], init: Any = None, /) -> iommu_test_hw_info: ...
    @overload
    def new(self, ctype: Literal["struct iommu_vdevice_alloc *"], init: Any = None, /) -> iommu_vdevice_alloc: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_vevent_arm_smmuv3 *"], init: Any = None, /
    ) -> iommu_vevent_arm_smmuv3: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_vevent_tegra241_cmdqv *"], init: Any = None, /
    ) -> iommu_vevent_tegra241_cmdqv: ...
    @overload
    def new(self, ctype: Literal["struct iommu_veventq_alloc *"], init: Any = None, /) -> iommu_veventq_alloc: ...
    @overload
    def new(self, ctype: Literal["struct iommu_vfio_ioas *"], init: Any = None, /) -> iommu_vfio_ioas: ...
    @overload
    def new(self, ctype: Literal["struct iommu_viommu_alloc *"], init: Any = None, /) -> iommu_viommu_alloc: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_viommu_arm_smmuv3_invalidate *"], init: Any = None, /
    ) -> iommu_viommu_arm_smmuv3_invalidate: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_viommu_event_selftest *"], init: Any = None, /
    ) -> iommu_viommu_event_selftest: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_viommu_invalidate_selftest *"], init: Any = None, /
    ) -> iommu_viommu_invalidate_selftest: ...
    @overload
    def new(self, ctype: Literal["struct iommu_viommu_selftest *"], init: Any = None, /) -> iommu_viommu_selftest: ...
    @overload
    def new(
        self, ctype: Literal["struct iommu_viommu_tegra241_cmdqv *"], init: Any = None, /
    ) -> iommu_viommu_tegra241_cmdqv: ...
    @overload
    def new(self, ctype: Literal["struct iommufd_bench_loop *"], init: Any = None, /) -> iommufd_bench_loop: ...
    @overload
    def new(self, ctype: Literal["struct iommufd_bench_move *"], init: Any = None, /) -> iommufd_bench_move: ...
    @overload
    def new(self, ctype: Literal["struct iommufd_bench_step *"], init: Any = None, /) -> iommufd_bench_step: ...
    @overload
    def new(self, ctype: Literal["struct iommufd_clock *"], init: Any = None, /) -> iommufd_clock: ...
    @overload
    def new(self, ctype: Literal["struct iommufd_copy *"], init: Any = None, /) -> iommufd_copy: ...
    @overload
    def new(self, ctype: Literal["struct iommufd_step *"], init: Any = None, /) -> iommufd_step: ...
    @overload
    def new(self, ctype: Literal["struct iommufd_vevent_header *"], init: Any = None, /) -> iommufd_vevent_header: ...
    @overload
    def new(self, ctype: Literal["struct vfio_bitmap *"], init: Any = None, /) -> vfio_bitmap: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_attach_iommufd_pt *"], init: Any = None, /
    ) -> vfio_device_attach_iommufd_pt: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_bind_iommufd *"], init: Any = None, /
    ) -> vfio_device_bind_iommufd: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_detach_iommufd_pt *"], init: Any = None, /
    ) -> vfio_device_detach_iommufd_pt: ...
    @overload
    def new(self, ctype: Literal["struct vfio_device_feature *"], init: Any = None, /) -> vfio_device_feature: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_bus_master *"], init: Any = None, /
    ) -> vfio_device_feature_bus_master: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_dma_buf *"], init: Any = None, /
    ) -> vfio_device_feature_dma_buf: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_dma_logging_control *"], init: Any = None, /
    ) -> vfio_device_feature_dma_logging_control: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_dma_logging_range *"], init: Any = None, /
    ) -> vfio_device_feature_dma_logging_range: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_dma_logging_report *"], init: Any = None, /
    ) -> vfio_device_feature_dma_logging_report: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_mig_data_size *"], init: Any = None, /
    ) -> vfio_device_feature_mig_data_size: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_mig_state *"], init: Any = None, /
    ) -> vfio_device_feature_mig_state: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_migration *"], init: Any = None, /
    ) -> vfio_device_feature_migration: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_feature_zpci_err *"], init: Any = None, /
    ) -> vfio_device_feature_zpci_err: ...
    @overload
    def new(self, ctype: Literal["struct vfio_device_info *"], init: Any = None, /) -> vfio_device_info: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_info_cap_pci_atomic_comp *"], init: Any = None, /
    ) -> vfio_device_info_cap_pci_atomic_comp: ...
    @overload
    def new(self, ctype: Literal["struct vfio_device_ioeventfd *"], init: Any = None, /) -> vfio_device_ioeventfd: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_device_low_power_entry_with_wakeup *"], init: Any = None, /
    ) -> vfio_device_low_power_entry_with_wakeup: ...
    @overload
    def new(self, ctype: Literal["struct vfio_group_status *"], init: Any = None, /) -> vfio_group_status: ...
    @overload
    def new(self, ctype: Literal["struct vfio_info_cap_header *"], init: Any = None, /) -> vfio_info_cap_header: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_iommu_type1_dirty_bitmap *"], init: Any = None, /
    ) -> vfio_iommu_type1_dirty_bitmap: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_iommu_type1_dirty_bitmap_get *"], init: Any = None, /
    ) -> vfio_iommu_type1_dirty_bitmap_get: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_iommu_type1_dma_map *"], init: Any = None, /
    ) -> vfio_iommu_type1_dma_map: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_iommu_type1_dma_unmap *"], init: Any = None, /
    ) -> vfio_iommu_type1_dma_unmap: ...
    @overload
    def new(self, ctype: Literal["struct vfio_iommu_type1_info *"], init: Any = None, /) -> vfio_iommu_type1_info: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_iommu_type1_info_cap_iova_range *"], init: Any = None, /
    ) -> vfio_iommu_type1_info_cap_iova_range: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_iommu_type1_info_cap_migration *"], init: Any = None, /
    ) -> vfio_iommu_type1_info_cap_migration: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_iommu_type1_info_dma_avail *"], init: Any = None, /
    ) -> vfio_iommu_type1_info_dma_avail: ...
    @overload
    def new(self, ctype: Literal["struct vfio_iova_range *"], init: Any = None, /) -> vfio_iova_range: ...
    @overload
    def new(self, ctype: Literal["struct vfio_irq_info *"], init: Any = None, /) -> vfio_irq_info: ...
    @overload
    def new(self, ctype: Literal["struct vfio_irq_set *"], init: Any = None, /) -> vfio_irq_set: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_pci_dependent_device *"], init: Any = None, /
    ) -> vfio_pci_dependent_device: ...
    @overload
    def new(self, ctype: Literal["struct vfio_pci_hot_reset *"], init: Any = None, /) -> vfio_pci_hot_reset: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_pci_hot_reset_info *"], init: Any = None, /
    ) -> vfio_pci_hot_reset_info: ...
    @overload
    def new(self, ctype: Literal["struct vfio_precopy_info *"], init: Any = None, /) -> vfio_precopy_info: ...
    @overload
    def new(self, ctype: Literal["struct vfio_region_dma_range *"], init: Any = None, /) -> vfio_region_dma_range: ...
    @overload
    def new(self, ctype: Literal["struct vfio_region_info *"], init: Any = None, /) -> vfio_region_info: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_region_info_cap_sparse_mmap *"], init: Any = None, /
    ) -> vfio_region_info_cap_sparse_mmap: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_region_info_cap_type *"], init: Any = None, /
    ) -> vfio_region_info_cap_type: ...
    @overload
    def new(
        self, ctype: Literal["struct vfio_region_sparse_mmap_area *"], init: Any = None, /
    ) -> vfio_region_sparse_mmap_area: ...
    # The name of the structure is known at run time only, or the type is not a structure.
    @overload
    def new(self, ctype: str, init: Any = None, /) -> Any: ...
    def cast(self, ctype: str, value: Any, /) -> Any: ...
    def addressof(self, cdata: Any, /, *fields: str) -> Any: ...
    def sizeof(self, ctype: Any, /) -> int: ...
    def offsetof(self, ctype: str, *fields: str) -> int: ...
    def typeof(self, ctype: Any, /) -> Any: ...
    def list_types(self) -> tuple[list[str], list[str], list[str]]: ...
    def buffer(self, cdata: Any, size: int = -1, /) -> Any: ...
    def from_buffer(self, *args: Any, require_writable: bool = False) -> Any: ...
    def memmove(self, dest: Any, src: Any, n: int, /) -> None: ...

class _Lib:
    IOMMUFD_BENCH_CLEAN: int
    IOMMUFD_BENCH_DIRTY: int
    IOMMUFD_BENCH_EVICTED: int
    IOMMUFD_BENCH_FAULTED: int
    IOMMUFD_BENCH_SWITCHED: int
    IOMMUFD_BENCH_UNTOUCHED: int
    IOMMUFD_CACHE_CLFLUSH: int
    IOMMUFD_CACHE_CLFLUSHOPT: int
    IOMMUFD_CACHE_CLWB: int
    IOMMUFD_CMD_BASE: int
    IOMMUFD_CMD_DESTROY: int
    IOMMUFD_CMD_FAULT_QUEUE_ALLOC: int
    IOMMUFD_CMD_GET_HW_INFO: int
    IOMMUFD_CMD_HWPT_ALLOC: int
    IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP: int
    IOMMUFD_CMD_HWPT_INVALIDATE: int
    IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING: int
    IOMMUFD_CMD_HW_QUEUE_ALLOC: int
    IOMMUFD_CMD_IOAS_ALLOC: int
    IOMMUFD_CMD_IOAS_ALLOW_IOVAS: int
    IOMMUFD_CMD_IOAS_CHANGE_PROCESS: int
    IOMMUFD_CMD_IOAS_COPY: int
    IOMMUFD_CMD_IOAS_IOVA_RANGES: int
    IOMMUFD_CMD_IOAS_MAP: int
    IOMMUFD_CMD_IOAS_MAP_FILE: int
    IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA: int
    IOMMUFD_CMD_IOAS_UNMAP: int
    IOMMUFD_CMD_OPTION: int
    IOMMUFD_CMD_VDEVICE_ALLOC: int
    IOMMUFD_CMD_VEVENTQ_ALLOC: int
    IOMMUFD_CMD_VFIO_IOAS: int
    IOMMUFD_CMD_VIOMMU_ALLOC: int
    IOMMUFD_PAGE_RESP_INVALID: int
    IOMMUFD_PAGE_RESP_SUCCESS: int
    IOMMUFD_STEP_CLOSE: int
    IOMMUFD_STEP_IOCTL: int
    IOMMUFD_STEP_OPEN: int
    IOMMUFD_TYPE: int
    IOMMU_DESTROY: int
    IOMMU_FAULT_QUEUE_ALLOC: int
    IOMMU_GET_HW_INFO: int
    IOMMU_HWPT_ALLOC: int
    IOMMU_HWPT_ALLOC_DIRTY_TRACKING: int
    IOMMU_HWPT_ALLOC_NEST_PARENT: int
    IOMMU_HWPT_ALLOC_PASID: int
    IOMMU_HWPT_DATA_AMD_GUEST: int
    IOMMU_HWPT_DATA_ARM_SMMUV3: int
    IOMMU_HWPT_DATA_NONE: int
    IOMMU_HWPT_DATA_SELFTEST: int
    IOMMU_HWPT_DATA_VTD_S1: int
    IOMMU_HWPT_DIRTY_TRACKING_ENABLE: int
    IOMMU_HWPT_FAULT_ID_VALID: int
    IOMMU_HWPT_GET_DIRTY_BITMAP: int
    IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR: int
    IOMMU_HWPT_INVALIDATE: int
    IOMMU_HWPT_INVALIDATE_DATA_SELFTEST: int
    IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID: int
    IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: int
    IOMMU_HWPT_SET_DIRTY_TRACKING: int
    IOMMU_HW_CAP_DIRTY_TRACKING: int
    IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED: int
    IOMMU_HW_CAP_PCI_PASID_EXEC: int
    IOMMU_HW_CAP_PCI_PASID_PRIV: int
    IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI: int
    IOMMU_HW_INFO_FLAG_INPUT_TYPE: int
    IOMMU_HW_INFO_SELFTEST_REGVAL: int
    IOMMU_HW_INFO_TYPE_AMD: int
    IOMMU_HW_INFO_TYPE_ARM_SMMUV3: int
    IOMMU_HW_INFO_TYPE_DEFAULT: int
    IOMMU_HW_INFO_TYPE_INTEL_VTD: int
    IOMMU_HW_INFO_TYPE_NONE: int
    IOMMU_HW_INFO_TYPE_SELFTEST: int
    IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: int
    IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17: int
    IOMMU_HW_QUEUE_ALLOC: int
    IOMMU_HW_QUEUE_TYPE_DEFAULT: int
    IOMMU_HW_QUEUE_TYPE_SELFTEST: int
    IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV: int
    IOMMU_IOAS_ALLOC: int
    IOMMU_IOAS_ALLOW_IOVAS: int
    IOMMU_IOAS_CHANGE_PROCESS: int
    IOMMU_IOAS_COPY: int
    IOMMU_IOAS_IOVA_RANGES: int
    IOMMU_IOAS_MAP: int
    IOMMU_IOAS_MAP_FILE: int
    IOMMU_IOAS_MAP_FIXED_IOVA: int
    IOMMU_IOAS_MAP_READABLE: int
    IOMMU_IOAS_MAP_WRITEABLE: int
    IOMMU_IOAS_NOIOMMU_GET_PA: int
    IOMMU_IOAS_UNMAP: int
    IOMMU_OPTION: int
    IOMMU_OPTION_HUGE_PAGES: int
    IOMMU_OPTION_OP_GET: int
    IOMMU_OPTION_OP_SET: int
    IOMMU_OPTION_RLIMIT_MODE: int
    IOMMU_PGFAULT_FLAGS_LAST_PAGE: int
    IOMMU_PGFAULT_FLAGS_PASID_VALID: int
    IOMMU_PGFAULT_PERM_EXEC: int
    IOMMU_PGFAULT_PERM_PRIV: int
    IOMMU_PGFAULT_PERM_READ: int
    IOMMU_PGFAULT_PERM_WRITE: int
    IOMMU_TEST_CMD: int
    IOMMU_TEST_DEV_CACHE_DEFAULT: int
    IOMMU_TEST_HW_QUEUE_MAX: int
    IOMMU_TEST_INVALIDATE_FLAG_ALL: int
    IOMMU_TEST_IOTLB_DEFAULT: int
    IOMMU_TEST_OP_ACCESS_PAGES: int
    IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: int
    IOMMU_TEST_OP_ACCESS_RW: int
    IOMMU_TEST_OP_ADD_RESERVED: int
    IOMMU_TEST_OP_CACHE_FLUSH_COUNT: int
    IOMMU_TEST_OP_CREATE_ACCESS: int
    IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: int
    IOMMU_TEST_OP_DEV_CHECK_CACHE: int
    IOMMU_TEST_OP_DIRTY: int
    IOMMU_TEST_OP_DMABUF_GET: int
    IOMMU_TEST_OP_DMABUF_REVOKE: int
    IOMMU_TEST_OP_MD_CHECK_IOTLB: int
    IOMMU_TEST_OP_MD_CHECK_MAP: int
    IOMMU_TEST_OP_MD_CHECK_REFS: int
    IOMMU_TEST_OP_MOCK_DOMAIN: int
    IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS: int
    IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: int
    IOMMU_TEST_OP_PASID_ATTACH: int
    IOMMU_TEST_OP_PASID_CHECK_HWPT: int
    IOMMU_TEST_OP_PASID_DETACH: int
    IOMMU_TEST_OP_PASID_REPLACE: int
    IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT: int
    IOMMU_TEST_OP_TRIGGER_IOPF: int
    IOMMU_TEST_OP_TRIGGER_VEVENT: int
    IOMMU_TEST_PASID_RESERVED: int
    IOMMU_VDEVICE_ALLOC: int
    IOMMU_VEVENTQ_ALLOC: int
    IOMMU_VEVENTQ_FLAG_LOST_EVENTS: int
    IOMMU_VEVENTQ_TYPE_ARM_SMMUV3: int
    IOMMU_VEVENTQ_TYPE_DEFAULT: int
    IOMMU_VEVENTQ_TYPE_SELFTEST: int
    IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV: int
    IOMMU_VFIO_IOAS: int
    IOMMU_VFIO_IOAS_CLEAR: int
    IOMMU_VFIO_IOAS_GET: int
    IOMMU_VFIO_IOAS_SET: int
    IOMMU_VIOMMU_ALLOC: int
    IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: int
    IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST: int
    IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST_INVALID: int
    IOMMU_VIOMMU_TYPE_ARM_SMMUV3: int
    IOMMU_VIOMMU_TYPE_DEFAULT: int
    IOMMU_VIOMMU_TYPE_SELFTEST: int
    IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: int
    IOMMU_VTD_INV_FLAGS_LEAF: int
    IOMMU_VTD_S1_EAFE: int
    IOMMU_VTD_S1_SRE: int
    IOMMU_VTD_S1_WPE: int
    MOCK_ACCESS_RW_SLOW_PATH: int
    MOCK_ACCESS_RW_WRITE: int
    MOCK_APERTURE_LAST: int
    MOCK_APERTURE_START: int
    MOCK_CACHE_FLUSH_COUNT_RESET: int
    MOCK_DEV_CACHE_ID_MAX: int
    MOCK_DEV_CACHE_NUM: int
    MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES: int
    MOCK_FLAGS_ACCESS_SYZ: int
    MOCK_FLAGS_ACCESS_WRITE: int
    MOCK_FLAGS_DEVICE_COHERENT: int
    MOCK_FLAGS_DEVICE_NO_DIRTY: int
    MOCK_FLAGS_DEVICE_PASID: int
    MOCK_HUGE_PAGE_SIZE: int
    MOCK_IOMMUPT_DEFAULT: int
    MOCK_IOMMUPT_HUGE: int
    MOCK_NESTED_DOMAIN_IOTLB_ID_MAX: int
    MOCK_NESTED_DOMAIN_IOTLB_NUM: int
    MOCK_PAGE_SIZE: int
    MOCK_PASID_WIDTH: int
    VFIO_API_VERSION: int
    VFIO_BASE: int
    VFIO_CHECK_EXTENSION: int
    VFIO_DEVICE_ATTACH_IOMMUFD_PT: int
    VFIO_DEVICE_ATTACH_PASID: int
    VFIO_DEVICE_BIND_FLAG_TOKEN: int
    VFIO_DEVICE_BIND_IOMMUFD: int
    VFIO_DEVICE_DETACH_IOMMUFD_PT: int
    VFIO_DEVICE_DETACH_PASID: int
    VFIO_DEVICE_FEATURE: int
    VFIO_DEVICE_FEATURE_BUS_MASTER: int
    VFIO_DEVICE_FEATURE_CLEAR_MASTER: int
    VFIO_DEVICE_FEATURE_DMA_BUF: int
    VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: int
    VFIO_DEVICE_FEATURE_DMA_LOGGING_START: int
    VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: int
    VFIO_DEVICE_FEATURE_GET: int
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: int
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: int
    VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: int
    VFIO_DEVICE_FEATURE_MASK: int
    VFIO_DEVICE_FEATURE_MIGRATION: int
    VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: int
    VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: int
    VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2: int
    VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: int
    VFIO_DEVICE_FEATURE_PROBE: int
    VFIO_DEVICE_FEATURE_SET: int
    VFIO_DEVICE_FEATURE_SET_MASTER: int
    VFIO_DEVICE_FEATURE_ZPCI_ERROR: int
    VFIO_DEVICE_FLAGS_AMBA: int
    VFIO_DEVICE_FLAGS_AP: int
    VFIO_DEVICE_FLAGS_CAPS: int
    VFIO_DEVICE_FLAGS_CCW: int
    VFIO_DEVICE_FLAGS_CDX: int
    VFIO_DEVICE_FLAGS_FSL_MC: int
    VFIO_DEVICE_FLAGS_PCI: int
    VFIO_DEVICE_FLAGS_PLATFORM: int
    VFIO_DEVICE_FLAGS_RESET: int
    VFIO_DEVICE_GET_INFO: int
    VFIO_DEVICE_GET_IRQ_INFO: int
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: int
    VFIO_DEVICE_GET_REGION_INFO: int
    VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP: int
    VFIO_DEVICE_IOEVENTFD: int
    VFIO_DEVICE_IOEVENTFD_16: int
    VFIO_DEVICE_IOEVENTFD_32: int
    VFIO_DEVICE_IOEVENTFD_64: int
    VFIO_DEVICE_IOEVENTFD_8: int
    VFIO_DEVICE_IOEVENTFD_SIZE_MASK: int
    VFIO_DEVICE_PCI_HOT_RESET: int
    VFIO_DEVICE_RESET: int
    VFIO_DEVICE_SET_IRQS: int
    VFIO_DEVICE_STATE_ERROR: int
    VFIO_DEVICE_STATE_NR: int
    VFIO_DEVICE_STATE_PRE_COPY: int
    VFIO_DEVICE_STATE_PRE_COPY_P2P: int
    VFIO_DEVICE_STATE_RESUMING: int
    VFIO_DEVICE_STATE_RUNNING: int
    VFIO_DEVICE_STATE_RUNNING_P2P: int
    VFIO_DEVICE_STATE_STOP: int
    VFIO_DEVICE_STATE_STOP_COPY: int
    VFIO_DMA_CC_IOMMU: int
    VFIO_DMA_MAP_FLAG_READ: int
    VFIO_DMA_MAP_FLAG_VADDR: int
    VFIO_DMA_MAP_FLAG_WRITE: int
    VFIO_DMA_UNMAP_FLAG_ALL: int
    VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP: int
    VFIO_DMA_UNMAP_FLAG_VADDR: int
    VFIO_EEH: int
    VFIO_GET_API_VERSION: int
    VFIO_GROUP_FLAGS_CONTAINER_SET: int
    VFIO_GROUP_FLAGS_VIABLE: int
    VFIO_GROUP_GET_DEVICE_FD: int
    VFIO_GROUP_GET_STATUS: int
    VFIO_GROUP_SET_CONTAINER: int
    VFIO_GROUP_UNSET_CONTAINER: int
    VFIO_IOMMU_DIRTY_PAGES: int
    VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP: int
    VFIO_IOMMU_DIRTY_PAGES_FLAG_START: int
    VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP: int
    VFIO_IOMMU_DISABLE: int
    VFIO_IOMMU_ENABLE: int
    VFIO_IOMMU_GET_INFO: int
    VFIO_IOMMU_INFO_CAPS: int
    VFIO_IOMMU_INFO_PGSIZES: int
    VFIO_IOMMU_MAP_DMA: int
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: int
    VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION: int
    VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL: int
    VFIO_IOMMU_UNMAP_DMA: int
    VFIO_IRQ_INFO_AUTOMASKED: int
    VFIO_IRQ_INFO_EVENTFD: int
    VFIO_IRQ_INFO_MASKABLE: int
    VFIO_IRQ_INFO_NORESIZE: int
    VFIO_IRQ_SET_ACTION_MASK: int
    VFIO_IRQ_SET_ACTION_TRIGGER: int
    VFIO_IRQ_SET_ACTION_TYPE_MASK: int
    VFIO_IRQ_SET_ACTION_UNMASK: int
    VFIO_IRQ_SET_DATA_BOOL: int
    VFIO_IRQ_SET_DATA_EVENTFD: int
    VFIO_IRQ_SET_DATA_NONE: int
    VFIO_IRQ_SET_DATA_TYPE_MASK: int
    VFIO_MIGRATION_P2P: int
    VFIO_MIGRATION_PRE_COPY: int
    VFIO_MIGRATION_STOP_COPY: int
    VFIO_MIG_GET_PRECOPY_INFO: int
    VFIO_NOIOMMU_IOMMU: int
    VFIO_PCI_ATOMIC_COMP128: int
    VFIO_PCI_ATOMIC_COMP32: int
    VFIO_PCI_ATOMIC_COMP64: int
    VFIO_PCI_BAR0_REGION_INDEX: int
    VFIO_PCI_BAR1_REGION_INDEX: int
    VFIO_PCI_BAR2_REGION_INDEX: int
    VFIO_PCI_BAR3_REGION_INDEX: int
    VFIO_PCI_BAR4_REGION_INDEX: int
    VFIO_PCI_BAR5_REGION_INDEX: int
    VFIO_PCI_CONFIG_REGION_INDEX: int
    VFIO_PCI_DEVID_NOT_OWNED: int
    VFIO_PCI_DEVID_OWNED: int
    VFIO_PCI_ERR_IRQ_INDEX: int
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID: int
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED: int
    VFIO_PCI_INTX_IRQ_INDEX: int
    VFIO_PCI_MSIX_IRQ_INDEX: int
    VFIO_PCI_MSI_IRQ_INDEX: int
    VFIO_PCI_NUM_IRQS: int
    VFIO_PCI_NUM_REGIONS: int
    VFIO_PCI_REQ_IRQ_INDEX: int
    VFIO_PCI_ROM_REGION_INDEX: int
    VFIO_PCI_VGA_REGION_INDEX: int
    VFIO_PRECOPY_INFO_REINIT: int
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE: int
    VFIO_REGION_INFO_CAP_SPARSE_MMAP: int
    VFIO_REGION_INFO_CAP_TYPE: int
    VFIO_REGION_INFO_FLAG_CAPS: int
    VFIO_REGION_INFO_FLAG_MMAP: int
    VFIO_REGION_INFO_FLAG_READ: int
    VFIO_REGION_INFO_FLAG_WRITE: int
    VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG: int
    VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG: int
    VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION: int
    VFIO_REGION_TYPE_PCI_VENDOR_MASK: int
    VFIO_REGION_TYPE_PCI_VENDOR_TYPE: int
    VFIO_SET_IOMMU: int
    VFIO_SPAPR_TCE_IOMMU: int
    VFIO_SPAPR_TCE_v2_IOMMU: int
    VFIO_TYPE: int
    VFIO_TYPE1_IOMMU: int
    VFIO_TYPE1v2_IOMMU: int
    VFIO_UNMAP_ALL: int
    VFIO_UPDATE_VADDR: int
    def iommufd_bench_clock(self, ns: Any, count: int, /) -> None: ...
    def iommufd_bench_flush(self, buffer: Any, length: int, cache: int, ns: Any, count: int, /) -> None: ...
    def iommufd_bench_run(self, loop: Any, count: int, /) -> int: ...
    def iommufd_cache_execute(self, op: int, start: Any, length: int, /) -> None: ...
    def iommufd_cache_has(self, op: int, /) -> bool: ...
    def iommufd_clock_choose(self) -> bool: ...
    def iommufd_clock_ns(self) -> int: ...
    def iommufd_portal_has_movdir64b(self) -> bool: ...
    def iommufd_portal_submit(self, portal: Any, descriptor: Any, /) -> None: ...
    def iommufd_run_steps(
        self, steps: Any, count: int, inject_from: int, nth_fd: int, nth: int, done: Any, injected: Any, /
    ) -> int: ...
    def iommufd_uapi_access_rw(
        self, fd: int, access_id: int, iova: int, data: Any, length: int, flags: int, /
    ) -> int: ...
    def iommufd_uapi_ioas_map(
        self, fd: int, flags: int, ioas_id: int, user_va: int, length: int, iova: int, answer: Any, /
    ) -> int: ...
    def iommufd_uapi_ioas_unmap(self, fd: int, ioas_id: int, iova: int, length: int, answer: Any, /) -> int: ...
    def iommufd_uapi_ioctl(self, fd: int, request: int, arg: Any, /) -> int: ...
    def iommufd_uapi_ipc_lock(self) -> int: ...
    def iommufd_uapi_memory_on_node(self, start: Any, length: int, node: int, /) -> int: ...
    def iommufd_uapi_set_ipc_lock(self, effective: bool, /) -> int: ...

ffi: _Ffi
lib: _Lib
